//! `etc/apko.json`: the configuration of the platform as Go writes it.
//!
//! Invariant: fields in the order of apko's structs; what is zero or empty is left out, except that
//! `contents`, `entrypoint` and `accounts` are always there and pointers are there once set.

use super::Build;
use crate::{
    apko::{
        behaviour::{Behaviour, Capability},
        config::{Accounts, Certificates, Contents, Entrypoint, ImageConfiguration, PathChange},
        error::AssembleError,
    },
    go::json::{Array, Object},
};

impl Build<'_> {
    pub(super) fn apko_json(&mut self) -> Result<(), AssembleError> {
        let mut json = self.config.to_apko_json(&self.behaviour);
        json.push(b'\n');
        let id = self
            .tree
            .write(b"etc/apko.json", json, 0o644)
            .map_err(AssembleError::in_step("etc/apko.json"))?;
        self.tree.node_mut(id).mode = 0o444;
        Ok(())
    }
}

impl ImageConfiguration {
    /// The configuration as one line of JSON, as this version of apko writes it.
    pub fn to_apko_json(&self, behaviour: &Behaviour) -> Vec<u8> {
        let mut out = Vec::new();
        let mut json = Object::new(&mut out);
        json.object("contents", |json| contents(&self.contents, json));
        json.object("entrypoint", |json| entrypoint(&self.entrypoint, json));
        json.string_omitempty("cmd", &self.cmd);
        json.string_omitempty("stop-signal", &self.stop_signal);
        json.string_omitempty("work-dir", &self.work_dir);
        json.object("accounts", |json| accounts(&self.accounts, behaviour, json));
        json.array_of_strings_omitempty("archs", &self.archs);
        json.map_of_strings_omitempty("environment", &self.environment);
        objects(&mut json, "paths", &self.paths, |one, json| path_change(one, behaviour, json));
        json.string_omitempty("vcs-url", &self.vcs_url);
        json.map_of_strings_omitempty("annotations", &self.annotations);
        json.string_omitempty("include", &self.include);
        json.array_of_strings_omitempty("volumes", &self.volumes);
        if let Some(layering) = &self.layering {
            json.object("layering", |json| {
                json.string_omitempty("strategy", &layering.strategy);
                json.integer_omitempty("budget", layering.budget);
            });
        }
        if let Some(certificates) = &self.certificates {
            json.object("certificates", |json| certificates_object(certificates, json));
        }
        json.end();
        out
    }
}

/// An array of objects, left out when empty.
fn objects<T>(json: &mut Object<'_>, key: &str, items: &[T], write: impl Fn(&T, &mut Object<'_>)) {
    if items.is_empty() {
        return;
    }
    json.array(key, |array: &mut Array<'_>| {
        for item in items {
            array.object(|json| write(item, json));
        }
    });
}

fn contents(contents: &Contents, json: &mut Object<'_>) {
    json.array_of_strings_omitempty("build_repositories", &contents.build_repositories);
    json.array_of_strings_omitempty("runtime_repositories", &contents.runtime_repositories);
    json.array_of_strings_omitempty("repositories", &contents.repositories);
    json.array_of_strings_omitempty("keyring", &contents.keyring);
    objects(json, "runtime_keyring", &contents.runtime_keyring, |key, json| {
        json.string_omitempty("name", &key.name);
        json.string_omitempty("content", &key.content);
    });
    json.array_of_strings_omitempty("packages", &contents.packages);
}

fn entrypoint(entrypoint: &Entrypoint, json: &mut Object<'_>) {
    json.string_omitempty("type", &entrypoint.kind);
    json.string_omitempty("command", &entrypoint.command);
    json.string_omitempty("shell-fragment", &entrypoint.shell_fragment);
    json.map_of_strings_omitempty("services", &entrypoint.services);
}

fn accounts(accounts: &Accounts, behaviour: &Behaviour, json: &mut Object<'_>) {
    json.string_omitempty("run-as", &accounts.run_as);
    objects(json, "users", &accounts.users, |user, json| {
        json.string_omitempty("username", &user.username);
        json.integer_omitempty("uid", user.uid);
        let nullable = behaviour.has(Capability::GidNullable);
        pointer(json, "gid", user.gid, nullable);
        json.string_omitempty("shell", &user.shell);
        json.string_omitempty("homedir", &user.homedir);
    });
    objects(json, "groups", &accounts.groups, |group, json| {
        json.string_omitempty("groupname", &group.groupname);
        json.integer_omitempty("gid", group.gid);
        json.array_of_strings_omitempty("members", &group.members);
    });
}

/// A number that is there once set; where it is no pointer, only when it is not 0.
fn pointer(json: &mut Object<'_>, key: &str, value: Option<u32>, nullable: bool) {
    if let Some(value) = value.filter(|value| nullable || *value != 0) {
        json.integer(key, value);
    }
}

fn path_change(change: &PathChange, behaviour: &Behaviour, json: &mut Object<'_>) {
    let nullable = behaviour.has(Capability::NullableIds);
    json.string_omitempty("path", &change.path);
    json.string_omitempty("type", &change.kind);
    pointer(json, "uid", change.uid, nullable);
    pointer(json, "gid", change.gid, nullable);
    json.integer_omitempty("permissions", change.permissions);
    json.string_omitempty("source", &change.source);
    json.boolean_omitempty("recursive", change.recursive);
}

fn certificates_object(certificates: &Certificates, json: &mut Object<'_>) {
    objects(json, "additional", &certificates.additional, |one, json| {
        json.string_omitempty("name", &one.name);
        json.string_omitempty("content", &one.content);
    });
    json.array_of_strings_omitempty("providers", &certificates.providers);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str, version: &str) -> String {
        let config = ImageConfiguration::from_attested_json(json.as_bytes()).unwrap();
        String::from_utf8(config.to_apko_json(&Behaviour::of(version).unwrap())).unwrap()
    }

    #[test]
    fn empty_objects_and_pointers() {
        let newest = "1.2.39+1";
        assert_eq!(written("{}", newest), r#"{"contents":{},"entrypoint":{},"accounts":{}}"#);
        let json = r#"{"paths":[{"path":"/<&>","type":"directory","uid":0,"gid":null}],
            "layering":{"strategy":"","budget":0},"certificates":{}}"#;
        let text = written(json, newest);
        assert!(
            text.contains(r#""paths":[{"path":"/\u003c\u0026\u003e","type":"directory","uid":0}]"#)
        );
        assert!(text.ends_with(r#""layering":{},"certificates":{}}"#), "{text}");
        assert!(!written(json, "1.2.18").contains("uid"));
    }
}

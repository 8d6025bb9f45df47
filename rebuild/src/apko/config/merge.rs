//! `include:`: how an included configuration and its includer become one.
//!
//! Invariant: where both set a single value the includer wins; lists hold the included items first;
//! maps hold both, the includer winning by key.

use super::{Accounts, Certificates, Contents, Entrypoint, ImageConfiguration, Layering};
use std::collections::BTreeMap;

impl ImageConfiguration {
    /// Puts what an included file says before or under what this one says.
    pub(super) fn include_first(&mut self, included: Self) {
        let Self {
            contents,
            entrypoint,
            cmd,
            stop_signal,
            work_dir,
            accounts,
            archs,
            environment,
            paths,
            vcs_url,
            annotations,
            include: _,
            volumes,
            layering,
            certificates,
        } = included;
        merge_contents(&mut self.contents, contents);
        merge_entrypoint(&mut self.entrypoint, entrypoint);
        text(&mut self.cmd, cmd);
        text(&mut self.stop_signal, stop_signal);
        text(&mut self.work_dir, work_dir);
        merge_accounts(&mut self.accounts, accounts);
        if self.archs.is_empty() {
            self.archs = archs;
        }
        map(&mut self.environment, environment);
        list(&mut self.paths, paths);
        text(&mut self.vcs_url, vcs_url);
        map(&mut self.annotations, annotations);
        list(&mut self.volumes, volumes);
        option::<Layering>(&mut self.layering, layering);
        option::<Certificates>(&mut self.certificates, certificates);
    }
}

fn merge_contents(own: &mut Contents, included: Contents) {
    list(&mut own.build_repositories, included.build_repositories);
    list(&mut own.runtime_repositories, included.runtime_repositories);
    list(&mut own.repositories, included.repositories);
    list(&mut own.keyring, included.keyring);
    list(&mut own.runtime_keyring, included.runtime_keyring);
    list(&mut own.packages, included.packages);
}

fn merge_entrypoint(own: &mut Entrypoint, included: Entrypoint) {
    text(&mut own.kind, included.kind);
    text(&mut own.command, included.command);
    text(&mut own.shell_fragment, included.shell_fragment);
    map(&mut own.services, included.services);
}

fn merge_accounts(own: &mut Accounts, included: Accounts) {
    text(&mut own.run_as, included.run_as);
    list(&mut own.users, included.users);
    list(&mut own.groups, included.groups);
}

fn text(own: &mut String, included: String) {
    if own.is_empty() {
        *own = included;
    }
}

fn list<T>(own: &mut Vec<T>, mut included: Vec<T>) {
    included.append(own);
    *own = included;
}

fn map(own: &mut BTreeMap<String, String>, included: BTreeMap<String, String>) {
    for (key, value) in included {
        own.entry(key).or_insert(value);
    }
}

fn option<T>(own: &mut Option<T>, included: Option<T>) {
    if own.is_none() {
        *own = included;
    }
}

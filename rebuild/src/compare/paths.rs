//! What is known of places in an image, and of environment variables: where a difference is only
//! noise, and where it changes whom or what a container obeys.
//!
//! Invariant: a rule names a place, never a verdict. Sensitive places stay sensitive whatever else
//! explains them.

use super::cause::{Cause, CauseCode, Confidence};

/// How a rule meets a path.
#[derive(Clone, Copy)]
enum Place {
    /// This path.
    At(&'static str),
    /// Everything below this folder.
    Under(&'static str),
    /// Every path that ends so.
    Ends(&'static str),
    /// Every path with this folder somewhere in it.
    Folder(&'static str),
}

struct Rule {
    place: Place,
    code: CauseCode,
    what: &'static str,
    sensitive: bool,
}

const fn sensitive(place: Place, code: CauseCode, what: &'static str) -> Rule {
    Rule { place, code, what, sensitive: true }
}

const fn noise(place: Place, code: CauseCode, what: &'static str) -> Rule {
    Rule { place, code, what, sensitive: false }
}

use CauseCode as C;
use Place::{At, Ends, Folder, Under};

/// The first rule that meets a path is taken.
const RULES: &[Rule] = &[
    sensitive(Under("etc/apk/keys"), C::TrustKey, "a key that the package manager trusts"),
    sensitive(Under("usr/share/apk/keys"), C::TrustKey, "a key that the package manager trusts"),
    sensitive(Under("etc/apt/trusted.gpg.d"), C::TrustKey, "a key that the package manager trusts"),
    sensitive(At("etc/apt/trusted.gpg"), C::TrustKey, "keys that the package manager trusts"),
    sensitive(Under("etc/apt/keyrings"), C::TrustKey, "a key that the package manager trusts"),
    sensitive(Under("usr/share/keyrings"), C::TrustKey, "a key that the package manager trusts"),
    sensitive(Under("etc/pki/rpm-gpg"), C::TrustKey, "a key that the package manager trusts"),
    sensitive(Under("etc/ssl/certs"), C::TrustCertificate, "certificates that programs trust"),
    sensitive(Under("etc/pki"), C::TrustCertificate, "certificates that programs trust"),
    sensitive(
        Under("usr/share/ca-certificates"),
        C::TrustCertificate,
        "certificates that programs trust",
    ),
    sensitive(
        Under("usr/local/share/ca-certificates"),
        C::TrustCertificate,
        "certificates that programs trust",
    ),
    sensitive(Ends("/cacerts"), C::TrustCertificate, "certificates that Java programs trust"),
    sensitive(At("etc/apk/repositories"), C::TrustRepositories, "where packages come from"),
    sensitive(Under("etc/apk/repositories.d"), C::TrustRepositories, "where packages come from"),
    sensitive(At("etc/apt/sources.list"), C::TrustRepositories, "where packages come from"),
    sensitive(Under("etc/apt/sources.list.d"), C::TrustRepositories, "where packages come from"),
    sensitive(Under("etc/yum.repos.d"), C::TrustRepositories, "where packages come from"),
    sensitive(At("etc/ld.so.preload"), C::SecurityLoader, "libraries loaded into every program"),
    sensitive(At("etc/ld.so.conf"), C::SecurityLoader, "where programs find libraries"),
    sensitive(Under("etc/ld.so.conf.d"), C::SecurityLoader, "where programs find libraries"),
    sensitive(At("etc/ld.so.cache"), C::SecurityLoader, "where programs find libraries"),
    sensitive(At("etc/passwd"), C::SecurityAccount, "accounts"),
    sensitive(At("etc/group"), C::SecurityAccount, "groups"),
    sensitive(At("etc/shadow"), C::SecurityAccount, "passwords, or the day of their last change"),
    sensitive(At("etc/gshadow"), C::SecurityAccount, "passwords of groups"),
    sensitive(At("etc/sudoers"), C::SecurityAccount, "who may become whom"),
    sensitive(Under("etc/sudoers.d"), C::SecurityAccount, "who may become whom"),
    sensitive(At("etc/doas.conf"), C::SecurityAccount, "who may become whom"),
    sensitive(Under("etc/pam.d"), C::SecurityAccount, "who may become whom"),
    sensitive(Under("root/.ssh"), C::SecurityAccount, "who may log in"),
    sensitive(Ends("/.ssh/authorized_keys"), C::SecurityAccount, "who may log in"),
    sensitive(Under("etc/ssh"), C::SecurityAccount, "who may log in"),
    sensitive(Under("etc/cron.d"), C::SecurityCommand, "commands that run by themselves"),
    sensitive(Under("etc/crontabs"), C::SecurityCommand, "commands that run by themselves"),
    sensitive(Under("var/spool/cron"), C::SecurityCommand, "commands that run by themselves"),
    sensitive(Under("etc/profile.d"), C::SecurityCommand, "commands that every shell runs"),
    sensitive(At("etc/profile"), C::SecurityCommand, "commands that every shell runs"),
    sensitive(Under("etc/s6"), C::SecurityCommand, "services that are started"),
    sensitive(Under("sv"), C::SecurityCommand, "services that are started"),
    noise(At("var/cache/ldconfig/aux-cache"), C::PathLinkerCache, "it holds inode numbers"),
    noise(Ends("/db/installed"), C::PackageDatabase, "the package database"),
    noise(Under("usr/lib/apk/db"), C::PackageDatabase, "the package database"),
    noise(Under("lib/apk/db"), C::PackageDatabase, "the package database"),
    noise(At("var/lib/dpkg/status"), C::PackageDatabase, "the package database"),
    noise(Ends("-old"), C::PathToolState, "a copy of what stood there before"),
    noise(Under("var/lib/dpkg"), C::PackageDatabase, "the package database"),
    noise(Under("var/lib/rpm"), C::PackageDatabase, "the package database"),
    noise(At("etc/apk/world"), C::PathToolState, "packages asked for, with generated names"),
    noise(Under("var/log"), C::PathLog, "a log"),
    noise(Ends(".log"), C::PathLog, "a log"),
    noise(Under("var/cache"), C::PathCache, "a cache"),
    noise(Folder(".cache"), C::PathCache, "a cache"),
    noise(Under("root/.npm"), C::PathCache, "a cache"),
    noise(Under("var/lib/apt/lists"), C::PathCache, "package lists, as old as the build"),
    noise(Folder("__pycache__"), C::PathBytecode, "compiled Python holds the time of its source"),
    noise(Ends(".pyc"), C::PathBytecode, "compiled Python holds the time of its source"),
    noise(At("etc/machine-id"), C::PathMachineId, "drawn at random"),
    noise(At("var/lib/dbus/machine-id"), C::PathMachineId, "drawn at random"),
    noise(Under("tmp"), C::PathTemporary, "a temporary file"),
    noise(Under("var/tmp"), C::PathTemporary, "a temporary file"),
    noise(Under("run"), C::PathTemporary, "state of a running system"),
    noise(At("etc/hosts"), C::PathBuilder, "builders write it into the container"),
    noise(At("etc/resolv.conf"), C::PathBuilder, "builders write it into the container"),
    noise(At("etc/hostname"), C::PathBuilder, "builders write it into the container"),
    noise(At("etc/mtab"), C::PathBuilder, "builders write it into the container"),
    noise(Ends(".wget-hsts"), C::PathToolState, "holds times of downloads"),
    noise(Ends(".bash_history"), C::PathToolState, "commands of the build"),
];

/// What is known of a path: the cause that it suggests, and whether a difference there changes
/// whom or what a container obeys.
pub(super) fn known(path: &str) -> Option<(Cause, bool)> {
    let below = |folder: &str| {
        path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let rule = RULES.iter().find(|rule| match rule.place {
        At(place) => path == place,
        Under(folder) => below(folder),
        Ends(end) => path.ends_with(end),
        Folder(name) => path.split('/').any(|part| part == name),
    })?;
    let confidence = if rule.sensitive { Confidence::Certain } else { Confidence::Likely };
    let cause = Cause { confidence, code: rule.code, detail: rule.what.to_owned() };
    Some((cause, rule.sensitive))
}

/// True for a path that programs load code from, whatever its mode says.
pub(super) fn holds_code(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ends = [".so", ".py", ".pyc", ".sh", ".js", ".mjs", ".cjs", ".pl", ".pm", ".rb", ".jar"];
    name.contains(".so.") || ends.iter().any(|end| name.ends_with(end))
}

/// Whether a variable makes programs load or run something else, and what it does.
pub(super) fn variable(name: &str) -> (bool, &'static str) {
    const LOADED: [(&str, &str); 14] = [
        ("PATH", "where programs are looked for"),
        ("PYTHONPATH", "code that Python loads"),
        ("PYTHONHOME", "code that Python loads"),
        ("PYTHONSTARTUP", "code that Python loads"),
        ("NODE_OPTIONS", "code that Node.js loads"),
        ("NODE_PATH", "code that Node.js loads"),
        ("PERL5LIB", "code that Perl loads"),
        ("PERL5OPT", "code that Perl loads"),
        ("RUBYOPT", "code that Ruby loads"),
        ("RUBYLIB", "code that Ruby loads"),
        ("JAVA_TOOL_OPTIONS", "code that Java loads"),
        ("BASH_ENV", "commands that shells run"),
        ("ENV", "commands that shells run"),
        ("GCONV_PATH", "modules that the C library loads"),
    ];
    if name.starts_with("LD_") {
        return (true, "what the dynamic loader loads");
    }
    match LOADED.iter().find(|(known, _)| *known == name) {
        Some((_, what)) => (true, what),
        None if name.starts_with("SSL_CERT_") => (false, "which certificates programs trust"),
        None if name.to_ascii_lowercase().ends_with("_proxy") => (false, "where traffic goes"),
        None => (false, "a variable that programs see"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let code = |path: &str| known(path).map(|(cause, sensitive)| (cause.code, sensitive));
        assert_eq!(code("etc/apk/keys/a.rsa.pub"), Some((C::TrustKey, true)));
        assert_eq!(code("etc/apk/keysmith"), None);
        assert_eq!(code("var/log/apk.log"), Some((C::PathLog, false)));
        assert_eq!(code("usr/lib/apk/db/installed"), Some((C::PackageDatabase, false)));
        assert_eq!(code("usr/lib/python3/__pycache__/x.pyc"), Some((C::PathBytecode, false)));
        assert_eq!(code("usr/bin/hello"), None);
        assert!(holds_code("usr/lib/libc.so.6") && !holds_code("usr/share/so"));
        assert!(variable("LD_PRELOAD").0 && variable("PATH").0 && !variable("LANG").0);
    }
}

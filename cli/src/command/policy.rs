//! `assay policy init|check|explain`: drafts, checks, puts into words.

use super::{named, policy_file};
use crate::{
    exit::{Failure, Outcome},
    output,
};
use attest::{Repository, policy::Policy, trust};
use oci::{Image, ImageSource, SourceOptions, discover_image};
use std::path::{Path, PathBuf};
use worker::pipeline::{network, source_of};

/// Subcommands of `policy`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Drafts a policy from the signers found beside an image. Nobody checked who they are.
    Init {
        /// The image.
        image: String,
        /// A policy, for its exceptions of network safety; else the user's own. The one that the
        /// image's registry needs goes into the draft.
        #[arg(long)]
        policy: Option<PathBuf>,
    },
    /// Reads a policy file and everything it names. Exit 16: invalid, or asks for what this version
    /// cannot check, which `gate check` and `verify` refuse.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Puts a policy into words.
    Explain {
        /// The file.
        file: PathBuf,
    },
}

/// Runs a subcommand.
pub async fn run(command: Command) -> Outcome {
    match command {
        Command::Init { image, policy } => init(&image, policy).await,
        Command::Check { file } => {
            let policy = policy_file::read(&file)?;
            refuse_unsupported(&file, &policy)?;
            output::data(&format!("{}: good, {}", file.display(), policy.digest()))?;
            Ok(0)
        }
        Command::Explain { file } => {
            output::data(&policy_file::read(&file)?.explain())?;
            Ok(0)
        }
    }
}

/// What gates and `verify` refuse is not good here.
fn refuse_unsupported(file: &Path, policy: &Policy) -> Result<(), Failure> {
    let unsupported = policy.unsupported_of_any();
    if unsupported.is_empty() {
        return Ok(());
    }
    Err(Failure::Policy(format!(
        "policy {}: can be read, but asks for what this version cannot check: {}. A gate refuses \
         every image that this is about, `verify` those of such a publisher\nhint: drop the demand \
         from the policy, or use a version that can check it",
        file.display(),
        unsupported.join(", ")
    )))
}

/// The exceptions of network safety that were needed to read the image.
fn exceptions(policy: &Policy, repository: &Repository) -> String {
    let host = repository.as_str().split('/').next().unwrap_or_default();
    // As reading went: by origin, whatever the spelling.
    let network = network(policy);
    let Ok(origin) = network.base_url(host).and_then(|url| network.check(&url, host)) else {
        return String::new();
    };
    let own = policy.registries.iter().zip(&network.hosts);
    let own = own.filter(|(_, exception)| exception.is_for(&origin));
    own.map(|(exception, _)| {
        let plain = if exception.plain_http { "plain_http = true\n" } else { "" };
        let ca = match &exception.ca {
            Some(_) => "ca = \"ca.pem\"   # put the PEM of its authority there\n",
            None => "",
        };
        format!("\n[[registry]]\nhost = {:?}\n{plain}{ca}", exception.host)
    })
    .collect()
}

async fn init(image: &str, policy: Option<PathBuf>) -> Outcome {
    let reference = named::image(image)?;
    let policy = policy_file::find_any(policy.as_deref())?;
    let options = SourceOptions { network: network(&policy), ..SourceOptions::default() };
    let source = ImageSource::open(&reference, &options)?;
    let found = Image::read(&source, &reference).await?;
    let discovery = discover_image(&source, &found).await?;
    let trust = trust::judge_evidence(trust::Signers::Any, found.repository(), &discovery.evidence);
    let draft = trust.draft(source_of(&reference), found.repository());
    output::data(&format!("{}{}", draft.to_toml(), exceptions(&policy, found.repository())))?;
    output::say("a draft: put the publisher's key file beside it, and check whose key that is");
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use attest::policy::RegistryException;

    #[test]
    fn the_draft_has_the_exception_that_counted_however_it_is_spelled() {
        for (host, plain_http, repository, there) in [
            ("registry.lan:443", false, "registry.lan/team/app", true),
            ("registry.lan", false, "registry.lan:443/team/app", true),
            ("registry.lan:80", true, "registry.lan/team/app", true),
            ("registry.lan:80", true, "registry.lan:80/team/app", true),
            ("registry.lan:5000", false, "registry.lan/team/app", false),
            ("registry.lan", true, "registry.lan:443/team/app", false),
            ("other.lan", false, "registry.lan/team/app", false),
        ] {
            let exception = RegistryException { host: host.to_owned(), plain_http, ca: None };
            let policy = Policy { registries: vec![exception], ..Policy::default() };
            let draft = exceptions(&policy, &repository.parse().unwrap());
            let expected = format!("[[registry]]\nhost = {host:?}\n");
            assert_eq!(draft.contains(&expected), there, "{host} {repository}: {draft}");
        }
    }
}

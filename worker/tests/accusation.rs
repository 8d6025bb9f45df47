//! When `diverged` may be said, and when it must be: nothing that an attacker adds to an image
//! turns a divergence into a gap, and nothing that Assay cannot know turns a gap into a divergence.
//!
//! The images are the published cases, altered; the recipes are the attested ones, altered where a
//! test is about what a recipe may say.

mod fixture;
#[path = "accusation/image.rs"]
mod image;
#[path = "accusation/keys.rs"]
mod keys;
#[path = "accusation/recipe.rs"]
mod recipe;
#[path = "accusation/source.rs"]
mod source;

use attest::recipe::Recipe;
use fixture::reference;
use std::{fs, path::Path};
use worker::{
    pipeline::{
        Workshop, apko,
        attempt::{Answer, Attempt},
        progress::Silent,
        published::Fetched,
        verify::{VerifyOptions, verify},
    },
    report::VerifyReport,
};

const ALL_HINTS: &str = r#""epoch", "install-order", "install-order-conflicts", "key-set""#;

fn same(tar: Vec<u8>) -> Vec<u8> {
    tar
}

fn as_it_is(config: String) -> String {
    config
}

fn another_key() -> Vec<u8> {
    fs::read(fixture::fixtures().join("packages/assay-test-6a1f.rsa.pub")).unwrap()
}

async fn tried(workshop: &Workshop, image: &Fetched, recipe: &Recipe) -> Attempt {
    apko::attempt(workshop, image, recipe, None, &Silent).await
}

async fn report(workshop: &Workshop, case: &str) -> VerifyReport {
    let options = VerifyOptions::default();
    verify(workshop, &reference(case), &options, &Silent).await.unwrap().report
}

/// What is done to a file.
type Damage<'a> = &'a dyn Fn(&Path);

/// A copy of the packages' mirror in which something was done to one file.
fn broken_mirror(folder: &Path, damage: &dyn Fn(&Path)) -> worker::material::Places {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().flatten() {
            let place = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &place);
            } else {
                fs::copy(entry.path(), place).unwrap();
            }
        }
    }
    copy(&fixture::fixtures().join("packages"), folder);
    damage(folder);
    let mirror = attest::policy::Mirror {
        prefix: "https://packages.assay.test/".into(),
        url: format!("file://{}/", folder.display()),
        complete: true,
    };
    worker::material::Places::new(vec![mirror], &oci::NetworkPolicy::default()).unwrap()
}

/// `diverged`, or the codes of the gaps, or what else happened.
fn said(attempt: &Attempt) -> String {
    match &attempt.answer {
        Answer::Built(built) if built.level().is_reproduced() => "reproduced".to_owned(),
        Answer::Built(_) => "diverged".to_owned(),
        Answer::RecipeInvalid(gaps) => {
            let codes: Vec<&str> = gaps.iter().map(|gap| gap.code.as_str()).collect();
            format!("gap {}", codes.join(" "))
        }
        other => format!("{other:?}"),
    }
}

//! The assembler: configuration, packages, keys, times and behaviour in; layers and documents out.
//!
//! Invariant: a function of its arguments. The configuration is the one of the platform, as the
//! attestation has it or as [`ImageConfiguration::locked`] makes it; packages were verified before.

use super::{
    behaviour::Behaviour,
    config::{ImageConfiguration, architecture},
    database,
    error::AssembleError,
    fs::FileTree,
    install::{self, Conflict, Packages, base, database_link},
    layers::{self, Depth, LayerPlan, LayerSink, Owners, Planner, WrittenLayer, write_layers},
    oci::{self, ImageParts},
    post::Build,
    times::BuildTimes,
};
use crate::apk::package::Package;
use attest::{Gap, GapCode, Platform};
use std::sync::Arc;

/// Everything that decides the bytes of one platform's image, and how to make them.
pub struct AssemblyInput<'a> {
    /// The configuration of this platform.
    pub config: &'a ImageConfiguration,
    /// The platform.
    pub platform: &'a Platform,
    /// The packages, in the order of installation.
    pub packages: &'a [Arc<Package>],
    /// Key files for `etc/apk/keys`: name and bytes, discovered ones first, then the keyring.
    pub keys: &'a [(String, Vec<u8>)],
    /// Packages of the command line, which are in `etc/apk/world` only.
    pub extra_packages: &'a [String],
    /// Repositories of the command line.
    pub extra_repositories: &'a [String],
    /// Times.
    pub times: BuildTimes,
    /// The version of apko to be.
    pub behaviour: Behaviour,
    /// Stop at the image configuration, or go on to the manifest.
    pub depth: Depth,
    /// Threads to use; the bytes do not depend on it.
    pub threads: usize,
}

/// One layer of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssembledLayer {
    /// Digests and sizes.
    pub written: WrittenLayer,
    /// Names of the packages in it, sorted; none for the top layer and for a single one.
    pub packages: Vec<String>,
}

/// An assembled image.
#[derive(Debug, Clone)]
pub struct Assembly {
    /// The layers, top last.
    pub layers: Vec<AssembledLayer>,
    /// The bytes of the image configuration.
    pub config: Vec<u8>,
    /// The bytes of the manifest, if the layers were compressed.
    pub manifest: Option<Vec<u8>>,
    /// When the image counts as created, seconds since 1970.
    pub created: i64,
    /// Paths that two packages brought.
    pub conflicts: Vec<Conflict>,
    /// The configuration as etc/apko.json has it: `run-as` as a number.
    pub configuration: ImageConfiguration,
}

impl Assembly {
    /// The conflicts whose winner another order of installation could have changed.
    pub fn order_decided(&self) -> impl Iterator<Item = &Conflict> {
        self.conflicts.iter().filter(|conflict| conflict.order_matters)
    }
}

/// Assembles one platform's image; the layers go to the sink as they are written.
pub fn assemble(
    input: &AssemblyInput<'_>,
    sink: &dyn LayerSink,
) -> Result<Assembly, AssembleError> {
    let unknown = input.config.unknown_to(&input.behaviour);
    if !unknown.is_empty() {
        return Err(AssembleError::Unsupported(unknown));
    }
    let architecture = input.platform.architecture_with_variant();
    let archs = &input.config.archs;
    if !archs.is_empty() && !archs.iter().any(|name| architecture::oci(name) == architecture) {
        let detail = format!("expected {architecture} in archs, found {}", archs.join(", "));
        return Err(AssembleError::Unsupported(vec![Gap::new(GapCode::Platform, detail)]));
    }
    let created = input.times.created(input.packages.iter().map(|package| package.info.build_date));
    let mut config = input.config.clone();
    let mut tree = FileTree::new();
    let (conflicts, records) = install_all(input, &architecture, &mut tree)?;
    let packages = Packages(input.packages);
    let mut build = Build {
        tree: &mut tree,
        packages,
        config: &mut config,
        behaviour: input.behaviour,
        created,
        extra_repositories: input.extra_repositories,
    };
    build.finish()?;
    tree.check_links().map_err(AssembleError::in_step("symlinks"))?;
    let planner = Planner {
        owners: Owners::read(&mut tree, packages)?,
        tree: &tree,
        packages,
        behaviour: input.behaviour,
        epoch_option: input.times.epoch_option(),
    };
    let plans = plan(&planner, &config, &records)?;
    drop(records);
    let written = write_layers(&planner, &plans, input.depth, input.threads, sink)?;
    let image = ImageParts {
        config: &config,
        architecture: &architecture,
        behaviour: &input.behaviour,
        created,
        layers: &written,
    };
    let config_json = oci::config(&image)?;
    let manifest = oci::manifest(&image, &config_json)?;
    let names = |plan: &LayerPlan| {
        plan.packages.iter().map(|position| input.packages[*position].info.name.clone()).collect()
    };
    let layers = written
        .into_iter()
        .zip(&plans)
        .map(|(written, plan)| AssembledLayer { written, packages: names(plan) })
        .collect();
    Ok(Assembly {
        layers,
        config: config_json,
        manifest,
        created,
        conflicts,
        configuration: config,
    })
}

/// The base, the packages, their database and its link.
fn install_all(
    input: &AssemblyInput<'_>,
    architecture: &str,
    tree: &mut FileTree,
) -> Result<(Vec<Conflict>, Vec<Vec<u8>>), AssembleError> {
    let behaviour = &input.behaviour;
    base::base(tree, input.config, architecture, input.keys, input.extra_packages, behaviour)?;
    let epoch_option = input.times.epoch_option();
    let installed = install::install(tree, input.packages, behaviour, epoch_option)?;
    let records = database::records(input.packages, &installed, behaviour)?;
    let path = format!("{}/installed", behaviour.database_folder());
    let in_step = AssembleError::in_step("installed database");
    let id = tree.open(path.as_bytes(), Some(0o644)).map_err(in_step)?;
    tree.node_mut(id).data.extend(records.concat());
    let provides_merged_lib = |package: &Arc<Package>| {
        package.info.provides.iter().any(|provided| provided == "merged-lib")
    };
    let merged_lib = input.packages.iter().any(provides_merged_lib);
    database_link::link_database(tree, behaviour, merged_lib)?;
    Ok((installed.conflicts, records))
}

fn plan(
    planner: &Planner<'_>,
    config: &ImageConfiguration,
    records: &[Vec<u8>],
) -> Result<Vec<LayerPlan>, AssembleError> {
    match config.active_layering() {
        None => Ok(planner.single()),
        Some(layering) => {
            let groups = layers::groups(planner.packages.0, layering.budget)?;
            Ok(planner.layered(groups, records))
        }
    }
}

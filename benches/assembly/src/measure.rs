//! One case: what is done in a process of its own, and what it took.
//!
//! Invariant: the way is the one of `assay assemble`: the index, each package by its record, the
//! assembler. Nothing is left out that a real run does between a repository on this disk and the
//! digests; files were written a moment ago, so the disk itself is not measured.

use anyhow::{Context as _, Result, ensure};
use attest::{Digest, Platform, policy::Policy};
use flate2::read::MultiGzDecoder;
use rebuild::{
    apk::package::Package,
    apko::{
        AssemblyInput, Behaviour, BuildTimes, Depth, Discard, ImageConfiguration, assemble,
        config::{Extras, Lock, LockedPackage},
    },
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{BufReader, Read},
    path::Path,
    sync::Arc,
    time::Instant,
};
use worker::material::{
    ContentStore, Keys, Origins, PackageProof, Places, largest_first, packages::Shelf,
    store::STORE_BYTES_MAX_DEFAULT,
};

/// Bytes that the baseline reads at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// One thread that inflates all package data and takes its SHA-256.
    Baseline,
    /// Package files, everything verified, to the image configuration.
    ColdConfig,
    /// The same to the manifest.
    ColdManifest,
    /// The same to the configuration, and every package is kept unpacked.
    FillConfig,
    /// The store holds the packages, to the configuration.
    WarmConfig,
    /// The same to the manifest.
    WarmManifest,
    /// The store holds four of five packages, to the configuration.
    SharedConfig,
    /// The same to the manifest.
    SharedManifest,
    /// Fills a store; not in the table.
    Fill,
}

impl Case {
    /// Those of the table, in its order.
    pub const MEASURED: &[Self] = &[
        Self::Baseline,
        Self::ColdConfig,
        Self::ColdManifest,
        Self::FillConfig,
        Self::WarmConfig,
        Self::WarmManifest,
        Self::SharedConfig,
        Self::SharedManifest,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::ColdConfig => "cold-config",
            Self::ColdManifest => "cold-manifest",
            Self::FillConfig => "fill-config",
            Self::WarmConfig => "warm-config",
            Self::WarmManifest => "warm-manifest",
            Self::SharedConfig => "shared-config",
            Self::SharedManifest => "shared-manifest",
            Self::Fill => "fill",
        }
    }

    fn depth(self) -> Depth {
        match self {
            Self::ColdManifest | Self::WarmManifest | Self::SharedManifest => Depth::Blobs,
            _ => Depth::DiffIds,
        }
    }
}

/// What a case took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// Wall time until the digests are known.
    pub seconds: f64,
    /// Wall time of the whole process, as the one that started it saw it.
    #[serde(default)]
    pub process_seconds: f64,
    /// Time of all threads, user and system.
    pub cpu_seconds: f64,
    /// Highest resident memory.
    pub peak_kib: u64,
    /// Until the packages were there.
    pub packages_seconds: f64,
    /// The configuration's digest; none of the baseline.
    pub config: Option<String>,
    /// The manifest's digest, where it was made.
    pub manifest: Option<String>,
}

/// Runs a case in this process.
pub fn run(
    case: Case,
    repository: &Path,
    store: &Path,
    packages: usize,
    budget: u32,
) -> Result<Measured> {
    let started = Instant::now();
    let mut measured = Measured {
        seconds: 0.0,
        process_seconds: 0.0,
        cpu_seconds: 0.0,
        peak_kib: 0,
        packages_seconds: 0.0,
        config: None,
        manifest: None,
    };
    if case == Case::Baseline {
        baseline(repository, packages)?;
    } else {
        let work = tempfile::tempdir_in(repository.parent().unwrap_or(repository))?;
        let store = match case {
            Case::ColdConfig | Case::ColdManifest => {
                ContentStore::scratch(work.path().join("store"), STORE_BYTES_MAX_DEFAULT)?
            }
            _ => ContentStore::open(store, STORE_BYTES_MAX_DEFAULT)?,
        };
        let kept = gather(repository, Arc::new(store), work.path(), packages)?;
        measured.packages_seconds = started.elapsed().as_secs_f64();
        if case != Case::Fill {
            let (config, manifest) = image(&kept, budget, case.depth())?;
            measured.config = Some(config);
            measured.manifest = manifest;
        }
    }
    measured.seconds = started.elapsed().as_secs_f64();
    measured.cpu_seconds = cpu_seconds()?;
    measured.peak_kib = peak_kib()?;
    Ok(measured)
}

fn baseline(repository: &Path, packages: usize) -> Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    for number in 0..packages {
        let name = format!("x86_64/{}-1-r0.apk", super::repository::name(number));
        let file = BufReader::with_capacity(BUFFER_BYTES, File::open(repository.join(name))?);
        let mut stream = MultiGzDecoder::new(file);
        let mut hash = Sha256::new();
        loop {
            let read = stream.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
        }
        ensure!(hash.finalize().iter().any(|byte| *byte != 0), "a digest of zeros");
    }
    Ok(())
}

/// The packages, by the way that `assay assemble` goes.
fn gather(
    repository: &Path,
    store: Arc<ContentStore>,
    work: &Path,
    packages: usize,
) -> Result<Vec<Arc<Package>>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let policy = Policy::default();
    let places = Places::new(Vec::new(), &worker::pipeline::network(&policy))?;
    let keys = Keys::default();
    let shelf = Shelf {
        places: &places,
        store: &store,
        keys: &keys,
        spool: work,
        escrow_local: false,
        origins: Origins::AlsoLocal,
    };
    let base = repository.join("x86_64");
    let base = base.to_str().context("a path in UTF-8")?;
    runtime.block_on(async {
        let index = shelf.index(base, false).await?;
        let wanted: Vec<(String, PackageProof)> = index
            .index
            .entries
            .iter()
            .take(packages)
            .map(|record| {
                let uri = format!("{base}/{}", record.file_name());
                let index = index.material.clone();
                (uri, PackageProof::Index { record: Box::new(record.clone()), index, signed: true })
            })
            .collect();
        let shelf = &shelf;
        let one = |(uri, proof): (String, PackageProof)| async move {
            shelf.proven(&uri, &proof).await.map(|(package, _)| package)
        };
        let size = |(_, proof): &(String, PackageProof)| proof.size();
        Ok(largest_first(wanted, size, one).await?)
    })
}

fn image(packages: &[Arc<Package>], budget: u32, depth: Depth) -> Result<(String, Option<String>)> {
    let layering = match budget {
        0 => String::new(),
        budget => format!("layering: {{strategy: origin, budget: {budget}}}\n"),
    };
    let yaml = format!("contents: {{packages: [big000]}}\narchs: [x86_64]\n{layering}");
    let config = ImageConfiguration::from_yaml(yaml.as_bytes(), &|name| Err(name.to_owned()))?;
    let locked: Vec<LockedPackage> = packages
        .iter()
        .map(|package| LockedPackage {
            name: package.info.name.clone(),
            version: package.info.version.clone(),
            pin: None,
        })
        .collect();
    let behaviour = Behaviour::newest();
    let extras = Extras::default();
    let lock =
        Lock { architecture: "amd64", packages: &locked, from_lockfile: false, extras: &extras };
    let (config, _) = config.locked(&lock, &behaviour)?;
    let platform: Platform = "linux/amd64".parse()?;
    let input = AssemblyInput {
        config: &config,
        platform: &platform,
        packages,
        keys: &[],
        extra_packages: &[],
        extra_repositories: &[],
        times: BuildTimes::default(),
        behaviour,
        depth,
        threads: super::machine::threads(),
    };
    let made = assemble(&input, &Discard)?;
    let manifest = made.manifest.as_deref().map(|bytes| Digest::of(bytes).to_string());
    Ok((Digest::of(&made.config).to_string(), manifest))
}

/// `VmHWM` of this process.
fn peak_kib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()).context("no VmHWM")?;
    Ok(number.parse()?)
}

/// User and system time of this process; the kernel counts hundredths of a second.
fn cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let behind = stat.rsplit_once(')').context("a name in brackets")?.1;
    let fields: Vec<&str> = behind.split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<f64>().ok());
    let (user, system) = (ticks(11).context("utime")?, ticks(12).context("stime")?);
    Ok((user + system) / 100.0)
}

//! `cargo bench -p assay-benches -- NAME`: see `benches::run`. No test asserts a figure of these.

/// As in the `assay` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    benches::run(&arguments)
}

//! `kekd init`: read what the officers signed, make the instance, say what was made.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use kekd::clock::Clock;
use kekd::config::Config;
use kekd::flows;
use kekd::flows::init::InitReport;
use kekd::program::Failure;

use crate::exit::of_init;
use crate::serve::{close_hsm, start_hsm};

/// Makes the instance.
pub async fn init(config: Config, genesis: &Path, signatures: &[PathBuf]) -> Result<(), Failure> {
    let genesis = read_input(genesis)?;
    let signatures = signatures
        .iter()
        .map(|file| read_input(file))
        .collect::<Result<Vec<_>, _>>()?;
    let prepared = flows::init::prepare(&config, &genesis, &signatures).map_err(of_init)?;
    let hsm = start_hsm(&config)?;
    let born = flows::init::init(&config, prepared, &hsm, Clock::System).await;
    close_hsm(&hsm).await;
    report(&born.map_err(of_init)?).map_err(Failure::fatal)
}

/// A genesis document or a signature: at most 1 MiB.
fn read_input(file: &Path) -> Result<Vec<u8>, Failure> {
    const LEN_MAX: u64 = 1024 * 1024;
    let refused = |problem: &dyn std::fmt::Display| {
        Failure::configuration(format!("cannot read {}: {problem}", file.display()))
    };
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(LEN_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| refused(&error))?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len <= LEN_MAX) {
        Ok(bytes)
    } else {
        Err(refused(&"it has more than 1 MiB"))
    }
}

fn report(born: &InitReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "instance     {}", born.instance_name)?;
    writeln!(out, "instance id  {}", born.instance_id)?;
    writeln!(out, "signed by    {}", born.signers.join(", "))?;
    writeln!(out, "state        {}", born.state_dir.display())?;
    born.keks
        .iter()
        .try_for_each(|(name, keypair_id)| writeln!(out, "KEK          {name} {keypair_id}"))
}

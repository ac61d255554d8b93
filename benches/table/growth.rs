//! P4, P5 and P7: what grows with keys, with records and with callers.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use aws_lc_rs::rand;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType};
use kekd::audit::{Draft, Journal, Outcome};
use kekd::clock::Clock;
use kekd::config::{AuditConfig, Environment, load};
use kekd::hsm::{Asker, Hsm, KeyRef, KnownAnswer, UnwrapJob, WorkerCommand};
use kekd::ledger::Ledger;
use kekd::public_key::{RsaPublicKey, rsa_spki};
use kekd::types::{KeypairId, Lane, Padding, RequestId, Sha256};
use serde_json::json;
use tokio::task::JoinSet;

use crate::KEK;
use crate::bench::{Bench, Found};
use crate::load::{Sample, histogram, median, micros, unary};
use crate::raw::Raw;
use crate::report::round;
use crate::rig::{Door, KEKD, Module, Rig, memory_mib, run};

/// Keys that are few.
const FEW: usize = 10;

/// P4: one unwrap with few keys on the token and with many, each on an instance of its own, in turns;
/// and a worker that goes from key to key.
pub async fn keys(bench: &mut Bench) -> Found {
    let many = bench.pick(200, 10_000);
    let mut few = Rig::make(&bench.home.join("few"), &[KEK.to_owned()])?;
    let began = Instant::now();
    let (keys, public_key) = copies(bench, many)?;
    let making = began.elapsed();
    few.start(&[], &Module::SoftHsm)?;
    let start = bench.rig.start(&[], &Module::SoftHsm)?;
    let calls = Arc::new(few.kek(KEK).await?.calls()?);
    let with_few = few.clients(Door::Unix, 1).await?;
    let with_many = bench.rig.clients(Door::Unix, 1).await?;
    let mut ratios = Vec::new();
    for _ in 0..bench.pick(5, 15) {
        let few = unary(&with_few, &calls, 1, bench.times()).await?;
        let many = unary(&with_many, &bench.calls, 1, bench.times()).await?;
        ratios.push(many.ms(0.5) / few.ms(0.5));
    }
    few.stop()?;
    bench.rig.stop()?;
    let (cold, few_warm, many_warm) = from_key_to_key(bench, &keys, &public_key).await?;
    let (on_token, in_turn) = (median(ratios), many_warm / few_warm);
    let detail = json!({
        "keys": many,
        "full path, one key used, the others on its token": round(on_token),
        "worker alone, each key in turn, against 10 in turn": round(in_turn),
        "ms a call, 10 keys": round(few_warm),
        "all keys": round(many_warm),
        "all keys, test and first use": round(cold),
        "start with them (s)": round(start.as_secs_f64()),
        "making them (s)": round(making.as_secs_f64()),
    });
    let value = on_token.max(in_turn);
    Ok((json!(round(value)), value <= 1.05, detail))
}

/// So many RSA key pairs, copies of one under ids of their own: to make them all would take hours. kekd
/// sees them as strangers, and the worker can be told to use them.
fn copies(bench: &Bench, count: usize) -> anyhow::Result<(Vec<KeyRef>, RsaPublicKey)> {
    let session = bench.raw.session()?;
    let public = [
        Attribute::Token(false),
        Attribute::ModulusBits(3072.into()),
        Attribute::PublicExponent(vec![1, 0, 1]),
        Attribute::Encrypt(true),
    ];
    let private = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Decrypt(true),
        Attribute::Id(vec![0xee; 16]),
        Attribute::Label(b"copy".to_vec()),
    ];
    let (public, private) =
        session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private)?;
    let wanted = [AttributeType::Modulus, AttributeType::PublicExponent];
    let (mut modulus, mut exponent) = (Vec::new(), Vec::new());
    for attribute in session.get_attributes(public, &wanted)? {
        if let Attribute::Modulus(bytes) = attribute {
            modulus = bytes;
        } else if let Attribute::PublicExponent(bytes) = attribute {
            exponent = bytes;
        }
    }
    let spki = rsa_spki(&modulus, &exponent)?;
    let mut keys = Vec::new();
    for _ in 0..count {
        let mut object_id = [0; 16];
        rand::fill(&mut object_id)?;
        let template = [Attribute::Id(object_id.to_vec())];
        session.copy_object(private, &template)?;
        let template = [Attribute::Token(true), Attribute::Id(object_id.to_vec())];
        session.copy_object(public, &template)?;
        keys.push(KeyRef {
            object_id,
            spki_sha256: Some(Sha256::of(&spki)),
        });
    }
    Ok((keys, RsaPublicKey::from_spki(&spki)?))
}

/// One worker with one session: each key for the first time, then few and all in turn. Milliseconds
/// a call, each the median.
async fn from_key_to_key(
    bench: &Bench,
    keys: &[KeyRef],
    public_key: &RsaPublicKey,
) -> anyhow::Result<(f64, f64, f64)> {
    let file = bench.rig.file("kekd.toml");
    let mut config = load(&file, &Environment::of_process()?)?.config.hsm;
    config.sessions = 1;
    let command = WorkerCommand {
        program: KEKD.into(),
        args: vec!["hsm-worker".into()],
        environment: std::collections::BTreeMap::new(),
    };
    let hsm = Hsm::start(config, command, bench.home.join("pin-refused"));
    hsm.opened().await?;
    // As a start of kekd does; what it learns of the token's keys is its own.
    hsm.inventory().await?;
    let value = [7; 32];
    let wrapped_dek = public_key.wrap(Padding::OaepSha1, &value)?;
    let caller = "uid:7".parse()?;
    let once = async |key: &KeyRef| {
        let job = UnwrapJob {
            key: key.clone(),
            padding: Padding::OaepSha1,
            wrapped_dek: wrapped_dek.clone(),
            implicit_rejection_key: None,
        };
        let began = Instant::now();
        let deadline = began + Duration::from_secs(30);
        hsm.unwrap(&job, &Asker::new(&caller, Lane::Interactive, deadline))
            .await?;
        anyhow::Ok(micros(began.elapsed()))
    };
    let (mut cold, mut few, mut many) = (histogram()?, histogram()?, histogram()?);
    for key in keys {
        // A worker unwraps under no key before its test has passed.
        let test = KnownAnswer {
            key: key.clone(),
            padding: Padding::OaepSha1,
            wrapped: wrapped_dek.clone(),
            sha256: Sha256::of(&value),
            by_unwrap: false,
        };
        let began = Instant::now();
        ensure!(hsm.set_known_answer(test).await?, "a copy does not unwrap");
        let tested = micros(began.elapsed());
        cold.record(tested.saturating_add(once(key).await?))?;
    }
    let mut in_turn = keys.iter().cycle();
    for key in keys
        .iter()
        .take(FEW)
        .cycle()
        .take(keys.len().max(bench.pick(200, 1000)))
    {
        few.record(once(key).await?)?;
        many.record(once(in_turn.next().context("no key")?).await?)?;
    }
    hsm.shutdown().await;
    let middle = |seen| Sample::new(seen, 1.0).ms(0.5);
    Ok((middle(cold), middle(few), middle(many)))
}

/// P5: a start with many records and with many keys on the token, and what many versions in the ledger
/// add. What it takes longer than one with few, without what the module takes to list the keys.
pub async fn start(bench: &mut Bench) -> Found {
    let records = bench.pick(20_000, 1_000_000);
    let versions = bench.pick(4, 64);
    let starts = bench.pick(2, 4);

    let mut one = Rig::make(&bench.home.join("one"), &["recordings".to_owned()])?;
    let names: Vec<String> = (0..versions)
        .map(|number| format!("kek-{number}"))
        .collect();
    let mut several = Rig::make(&bench.home.join("many"), &names)?;
    let base = shortest_start(&mut one, starts)?;
    let with_versions = shortest_start(&mut several, starts)?;
    let per_version = (ledger_opens(&several)? - ledger_opens(&one)?) / f64::from(versions - 1);

    let (keys, module) = many_keys(bench, starts)?;
    let with_keys = shortest_start(&mut bench.rig, starts)?;

    bench.rig.start(&[], &Module::SoftHsm)?;
    let officer = bench.rig.client("officer").await?;
    let instance = officer.governance().await?.instance_id;
    drop(officer);
    bench.rig.stop()?;
    let began = Instant::now();
    write_records(&bench.rig, &Sha256::try_from(instance.as_slice())?, records).await?;
    let writing = began.elapsed().as_secs_f64();
    let with_both = shortest_start(&mut bench.rig, starts)?;
    let len = std::fs::metadata(bench.rig.file("state/audit.db"))?.len();

    let parts = [
        with_both - base - module,
        with_versions - base,
        per_version * 10_000.0,
    ];
    let [of_both, of_proofs, of_ledger] = parts.map(round);
    let value = json!({
        "for keys and records, beyond the module": of_both,
        "for the proofs before READY": of_proofs,
        "for 10,000 versions in the ledger, extrapolated": of_ledger,
    });
    let detail = json!({
        "records": records,
        "audit.db MiB": len >> 20,
        "writing them (s)": round(writing),
        "start, one version, few records, few keys": round(base),
        "keys on the token": keys,
        "many keys": round(with_keys),
        "many keys and many records": round(with_both),
        "the module alone opens and lists them in": round(module),
        "versions": versions,
        "many versions": round(with_versions),
        "us a version to open the ledger": round(per_version * 1e6),
    });
    // The machine's noise makes a part less than nothing; that is no gain for another.
    let beyond: f64 = parts.iter().map(|part| part.max(0.0)).sum();
    Ok((value, beyond <= 2.0, detail))
}

/// The shortest: whatever else the machine does only makes a start longer.
fn shortest_start(rig: &mut Rig, starts: usize) -> anyhow::Result<f64> {
    let mut shortest = f64::INFINITY;
    for _ in 0..starts {
        let took = rig.start(&[], &Module::SoftHsm)?;
        shortest = shortest.min(took.as_secs_f64());
    }
    rig.stop()?;
    Ok(shortest)
}

/// How long the ledger of a stopped rig takes to verify, at its shortest.
fn ledger_opens(rig: &Rig) -> anyhow::Result<f64> {
    let mut shortest = f64::INFINITY;
    for _ in 0..5 {
        let began = Instant::now();
        drop(Ledger::open(&rig.file("state"))?);
        shortest = shortest.min(began.elapsed().as_secs_f64());
    }
    Ok(shortest)
}

/// Fills the token of the rig, where P4 has not, and says how many private keys are there and how long
/// a process that has nothing but the module takes to open the token and to list them as kekd does.
fn many_keys(bench: &mut Bench, tries: usize) -> anyhow::Result<(usize, f64)> {
    let wanted = bench.pick(200, 10_000);
    let found = bench.raw.list()?;
    if found < wanted {
        copies(bench, wanted - found)?;
    }
    let mut shortest = f64::INFINITY;
    for _ in 0..tries {
        let mut child = Command::new(std::env::current_exe()?);
        child.arg("module-list").arg(&bench.rig.dir);
        shortest = shortest.min(run(child)?.trim().parse()?);
    }
    Ok((bench.raw.list()?, shortest))
}

/// In a process of its own: what the module takes to open the token and list its keys, in seconds.
pub fn module_list(rig: &Rig) -> anyhow::Result<f64> {
    let began = Instant::now();
    Raw::open(rig)?.list()?;
    Ok(began.elapsed().as_secs_f64())
}

async fn write_records(rig: &Rig, instance: &Sha256, count: usize) -> anyhow::Result<()> {
    const AT_ONCE: usize = 4096;
    let config = AuditConfig {
        queue_len_max: 2 * AT_ONCE,
        batch_len_max: AT_ONCE,
        ..AuditConfig::default()
    };
    let node = "rig".to_owned();
    let journal = Journal::open(&rig.file("state"), instance, node, config, Clock::System)?;
    let keypair_id: KeypairId = "6f9619ff-8b86-4011-b42d-00cf4fc964ff".parse()?;
    let draft = Draft {
        keypair_id: keypair_id.to_string(),
        kek: Some("recordings".parse()?),
        padding: Some(Padding::OaepSha1),
        ciphertext_digest: Some(*instance),
        outcome: Outcome::Released,
        ..Draft::new("spiffe://rig/lkm-1".to_owned(), RequestId::random()?)
    };
    let mut left = count;
    while left > 0 {
        let mut batch = JoinSet::new();
        for _ in 0..left.min(AT_ONCE) {
            let (journal, draft) = (journal.clone(), draft.clone());
            batch.spawn(async move { journal.record(draft).await });
        }
        left -= batch.len();
        while let Some(written) = batch.join_next().await {
            written??;
        }
    }
    Ok(journal.close().await?)
}

/// P7: memory with a thousand callers, against a process that has nothing but the module.
pub async fn memory(bench: &mut Bench) -> Found {
    const CALLERS: usize = 1000;
    let lines = [("hsm", "queue_len_max = 2048".to_owned())];
    bench.rig.start(&lines, &Module::SoftHsm)?;
    let mut child = Command::new(std::env::current_exe()?);
    child.arg("module-memory").arg(&bench.rig.dir);
    let own: f64 = run(child)?.trim().parse()?;
    let [daemon, worker] = bench.rig.pids().await?;
    let idle = [memory_mib(daemon, "VmRSS")?, memory_mib(worker, "VmRSS")?];
    let clients = bench.rig.clients(Door::Tls, 40).await?;
    let sample = unary(&clients, &bench.calls, CALLERS, bench.times()).await?;
    let peak = [memory_mib(daemon, "VmHWM")?, memory_mib(worker, "VmHWM")?];
    let above = peak.iter().sum::<f64>() - own;
    let detail = json!({
        "callers": CALLERS,
        "connections": clients.len(),
        "idle daemon, worker": idle.map(round),
        "peak daemon, worker": peak.map(round),
        "the module alone": round(own),
        "op/s": sample.rate.round(),
        "p99 ms": round(sample.ms(0.99)),
    });
    Ok((json!(round(above)), above <= 64.0, detail))
}

/// In a process of its own: what the module takes for itself, in MiB.
pub fn module_memory(rig: &Rig, object_id: [u8; 16], sessions: usize) -> anyhow::Result<f64> {
    let pid = std::process::id();
    let before = memory_mib(pid, "VmRSS")?;
    let raw = Raw::open(rig)?;
    let callers = (0..sessions).map(|_| raw.caller(object_id));
    let callers = callers.collect::<anyhow::Result<Vec<_>>>()?;
    let peak = memory_mib(pid, "VmRSS")?;
    drop(callers);
    Ok(peak - before)
}

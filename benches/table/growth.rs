//! P4, P5 and P7: what grows with keys, with records and with callers.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use aws_lc_rs::rand;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType};
use kekd::audit::{Draft, Journal, Outcome};
use kekd::clock::Clock;
use kekd::config::{AuditConfig, Environment, load};
use kekd::hsm::{Asker, Hsm, KeyRef, UnwrapJob, WorkerCommand};
use kekd::public_key::{RsaPublicKey, rsa_spki};
use kekd::types::{KeypairId, Lane, Padding, RequestId, Sha256};
use serde_json::json;
use tokio::task::JoinSet;

use crate::bench::{Bench, Found};
use crate::load::{Sample, histogram, median, micros, unary};
use crate::raw::Raw;
use crate::report::round;
use crate::rig::{Door, KEKD, Module, Rig, memory_mib, run};

/// Keys that are few.
const FEW: usize = 10;

/// P4: one unwrap with few keys on the token and with many, against the raw call beside it; and a
/// worker that goes from key to key.
pub async fn keys(bench: &mut Bench) -> Found {
    let many = bench.pick(1000, 10_000);
    let few = against_raw(bench).await?;
    let began = Instant::now();
    let (keys, public_key) = copies(bench, many)?;
    let making = began.elapsed();
    let start = bench.rig.start(&[], &Module::SoftHsm)?;
    let with_many = against_raw(bench).await?;
    bench.rig.stop()?;
    let (cold, few_warm, many_warm) = from_key_to_key(bench, &keys, &public_key).await?;
    let (on_token, in_turn) = (with_many / few, many_warm / few_warm);
    let detail = json!({
        "keys": many,
        "full path, one key used, the others on its token": round(on_token),
        "worker alone, each key in turn, against 10 in turn": round(in_turn),
        "ms a call, 10 keys": round(few_warm),
        "all keys": round(many_warm),
        "all keys, first use": round(cold),
        "start with them (s)": round(start.as_secs_f64()),
        "making them (s)": round(making.as_secs_f64()),
    });
    let value = on_token.max(in_turn);
    Ok((json!(round(value)), value <= 1.05, detail))
}

/// The median time of one caller's unwrap, in raw calls.
async fn against_raw(bench: &mut Bench) -> anyhow::Result<f64> {
    let lines = [("hsm", "sessions = 1".to_owned())];
    bench.rig.start(&lines, &Module::SoftHsm)?;
    let clients = bench.rig.clients(Door::Unix, 1).await?;
    let object_id = bench.kek.object_id()?;
    let mut ratios = Vec::new();
    for _ in 0..bench.pick(4, 6) {
        let raw = bench.raw.run(1, object_id, &bench.calls, bench.times())?;
        let kekd = unary(&clients, &bench.calls, 1, bench.times()).await?;
        ratios.push(kekd.ms(0.5) / raw.ms(0.5));
    }
    Ok(median(ratios))
}

/// So many RSA keys, copies of one under ids of their own: to make them all would take hours. kekd
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
    };
    let hsm = Hsm::start(config, command, bench.home.join("pin-refused"));
    hsm.opened().await?;
    // As a start of kekd does; what it learns of the token's keys is its own.
    hsm.inventory().await?;
    let wrapped_dek = public_key.wrap(Padding::OaepSha1, &[7; 32])?;
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
        cold.record(once(key).await?)?;
    }
    let mut in_turn = keys.iter().cycle();
    for key in keys.iter().take(FEW).cycle().take(keys.len().max(1000)) {
        few.record(once(key).await?)?;
        many.record(once(in_turn.next().context("no key")?).await?)?;
    }
    hsm.shutdown().await;
    let middle = |seen| Sample::new(seen, 1.0).ms(0.5);
    Ok((middle(cold), middle(few), middle(many)))
}

/// P5: a start with many records, and what each version adds to one.
pub async fn start(bench: &mut Bench) -> Found {
    let records = bench.pick(100_000, 1_000_000);
    let versions = bench.pick(10, 40);
    let starts = bench.pick(2, 4);
    let object_id = bench.kek.object_id()?;
    let operation = bench
        .raw
        .run(bench.sessions, object_id, &bench.calls, bench.times())?;
    let operation = 1.0 / operation.rate;

    let mut one = Rig::make(&bench.home.join("one"), &["recordings".to_owned()])?;
    let names: Vec<String> = (0..versions)
        .map(|number| format!("kek-{number}"))
        .collect();
    let mut several = Rig::make(&bench.home.join("many"), &names)?;
    let mut took = [const { Vec::new() }; 2];
    for _ in 0..starts {
        for (rig, took) in [&mut one, &mut several].into_iter().zip(&mut took) {
            took.push(rig.start(&[], &Module::SoftHsm)?.as_secs_f64());
        }
    }
    let instance = one.client("officer").await?.governance().await?.instance_id;
    one.stop()?;
    several.stop()?;
    // The shortest: whatever else the machine does only makes a start longer.
    let shortest = |took: Vec<f64>| took.into_iter().fold(f64::INFINITY, f64::min);
    let [base, with_versions] = took.map(shortest);
    let began = Instant::now();
    write_records(&one, &Sha256::try_from(instance.as_slice())?, records).await?;
    let writing = began.elapsed().as_secs_f64();
    let mut with_records = Vec::new();
    for _ in 0..starts {
        with_records.push(one.start(&[], &Module::SoftHsm)?.as_secs_f64());
    }
    let len = std::fs::metadata(one.file("state/audit.db"))?.len();
    let with_records = shortest(with_records);

    let per_version = (with_versions - base) / f64::from(versions - 1);
    let beyond = per_version - operation;
    let found = (with_records - base) + beyond * 10_000.0;
    let value = json!({
        "for the records": round(with_records - base),
        "for 10,000 versions, extrapolated": round(beyond * 10_000.0),
    });
    let detail = json!({
        "records": records,
        "audit.db MiB": len >> 20,
        "writing them (s)": round(writing),
        "start, one version, few records": round(base),
        "many records": round(with_records),
        "versions": versions,
        "start with them": round(with_versions),
        "ms a version": round(per_version * 1000.0),
        "of it one operation of the module": round(operation * 1000.0),
    });
    // Less than the module itself needs cannot be: then the machine was too busy to tell.
    let is_measured = beyond >= 0.0 && with_records >= base;
    Ok((value, is_measured && found <= 2.0, detail))
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

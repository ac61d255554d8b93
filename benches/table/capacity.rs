//! P1 to P3: what kekd costs, as throughput, as latency, and alone.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kekd::client::Client;
use kekd::proto::v1;
use prost::Message as _;
use serde_json::{Value, json};

use crate::KEK;
use crate::bench::{Bench, Found};
use crate::echo::Peer;
use crate::load::{Sample, histogram, median, micros, streams, unary};
use crate::raw::Raw;
use crate::report::round;
use crate::rig::{Door, Module, Rig, processor_seconds, run};

/// Connections of streams.
const STREAMS: usize = 4;
/// Bytes one small commit of the audit log writes: two pages of SQLite's WAL and their headers.
const COMMIT_LEN: usize = 2 * (4096 + 24);

/// P1: saturated throughput, against the raw module in the same run.
pub async fn throughput(bench: &mut Bench) -> Found {
    let mut by_sessions = serde_json::Map::new();
    let mut value = f64::NAN;
    let mut sizes = bench.pick(vec![bench.sessions], vec![1, 2, bench.sessions]);
    sizes.dedup();
    for sessions in sizes {
        let lines = [("hsm", format!("sessions = {sessions}"))];
        bench.rig.start(&lines, &Module::SoftHsm)?;
        let (unary, found) = against_raw(bench, sessions).await?;
        value = unary;
        by_sessions.insert(format!("{sessions} sessions"), found);
    }
    let callers = by_callers(bench).await?;
    let (network, network_detail) = network_hsm(bench).await?;
    let detail = json!({
        "of raw": by_sessions,
        "callers over mTLS": callers,
        "latency module (8 sessions, 10 ms)": network_detail,
    });
    let is_met = value >= 0.97 && network >= 0.97;
    let value = json!({ "SoftHSM": round(value), "latency module": round(network) });
    Ok((value, is_met, detail))
}

async fn against_raw(bench: &Bench, sessions: usize) -> anyhow::Result<(f64, Value)> {
    let object_id = bench.kek.object_id()?;
    let (times, calls) = (bench.times(), &bench.calls);
    let tls = bench.rig.clients(Door::Tls, 16).await?;
    let unix = bench.rig.clients(Door::Unix, 16).await?;
    let [daemon, worker] = bench.rig.pids().await?;
    let mut ratios = [const { Vec::new() }; 4];
    let mut costs = [const { Vec::new() }; 2];
    let mut raws = Vec::new();
    for _ in 0..bench.pick(3, 5) {
        let raw = bench.raw.run(sessions, object_id, calls, times)?;
        let before = [processor_seconds(daemon)?, processor_seconds(worker)?];
        let over_tls = unary(&tls, calls, 16, times).await?;
        let after = [processor_seconds(daemon)?, processor_seconds(worker)?];
        let samples = [
            over_tls,
            unary(&unix, calls, 16, times).await?,
            streams(tls.get(..STREAMS).unwrap_or_default(), calls, times).await?,
            streams(unix.get(..STREAMS).unwrap_or_default(), calls, times).await?,
        ];
        // Warm-up counts in both, so processor time is set against calls begun in it as well.
        let seconds: f64 = times.iter().map(Duration::as_secs_f64).sum();
        let [over_tls, ..] = &samples;
        for (cost, (before, after)) in costs.iter_mut().zip(before.iter().zip(after)) {
            cost.push((after - before) / (over_tls.rate * seconds) * 1000.0);
        }
        for (ratio, sample) in ratios.iter_mut().zip(&samples) {
            ratio.push(sample.rate / raw.rate);
        }
        raws.push(raw.rate);
    }
    let [tls, unix, tls_stream, unix_stream] = ratios.map(median);
    let [daemon, worker] = costs.map(median);
    let found = json!({
        "mTLS 16": round(tls),
        "Unix 16": round(unix),
        "mTLS streams": round(tls_stream),
        "Unix streams": round(unix_stream),
        "processor ms per call: daemon": round(daemon),
        "worker": round(worker),
        "raw op/s": raws.into_iter().map(f64::round).collect::<Vec<_>>(),
    });
    Ok((tls, found))
}

/// Throughput, p50 and p99 of 1 to 64 callers, on the sessions the daemon has now.
async fn by_callers(bench: &Bench) -> anyhow::Result<Value> {
    let mut found = serde_json::Map::new();
    for callers in [1, 4, 16, 64] {
        let clients = bench.rig.clients(Door::Tls, callers.min(32)).await?;
        let sample = unary(&clients, &bench.calls, callers, bench.times()).await?;
        found.insert(callers.to_string(), shown(&sample));
    }
    Ok(found.into())
}

fn shown(sample: &Sample) -> Value {
    json!({
        "op/s": sample.rate.round(),
        "p50 ms": round(sample.ms(0.5)),
        "p99 ms": round(sample.ms(0.99)),
    })
}

/// An HSM that takes its time elsewhere: with S sessions and t a call it can do S / t, and whoever asks
/// it a little less, for no sleep ends in time.
async fn network_hsm(bench: &mut Bench) -> anyhow::Result<(f64, Value)> {
    const SESSIONS: u16 = 8;
    const LATENCY_MS: u16 = 10;
    let module = bench.null(LATENCY_MS.into());
    let lines = [("hsm", format!("sessions = {SESSIONS}"))];
    bench.rig.start(&lines, &module)?;
    let clients = bench.rig.clients(Door::Tls, 16).await?;
    let ideal = 1000.0 * f64::from(SESSIONS) / f64::from(LATENCY_MS);
    let (mut of_ideal, mut of_raw) = (Vec::new(), Vec::new());
    for _ in 0..bench.pick(2, 3) {
        // In a process of its own: this one has another module open.
        let mut child = Command::new(std::env::current_exe()?);
        child.arg("module-rate").args([&bench.rig.dir, &bench.null]);
        child.arg(SESSIONS.to_string());
        child.args(bench.times().map(|time| time.as_millis().to_string()));
        child.env("PKCS11_NULL_LATENCY_MS", LATENCY_MS.to_string());
        let raw: f64 = run(child)?.trim().parse()?;
        let sample = unary(&clients, &bench.calls, 64, bench.times()).await?;
        of_ideal.push(sample.rate / ideal);
        of_raw.push(sample.rate / raw);
    }
    let [of_ideal, of_raw] = [of_ideal, of_raw].map(median);
    let detail = json!({ "of 8 / 10 ms": round(of_ideal), "of raw": round(of_raw) });
    Ok((of_raw, detail))
}

/// In a process of its own: decryptions a second of a module by itself. `times` are warm-up and window,
/// in milliseconds.
pub async fn module_rate(
    rig: &Rig,
    module: &Path,
    sessions: usize,
    times: [u64; 2],
) -> anyhow::Result<f64> {
    let kek = rig.kek(KEK).await?;
    let raw = Raw::open_with(rig, module)?;
    let [warm, window] = times.map(Duration::from_millis);
    // The first decryption of each ciphertext is a true one: those are to be over by then.
    let times = [warm.max(Duration::from_secs(1)), window];
    let sample = raw.run(sessions, kek.object_id()?, &kek.calls()?, times)?;
    Ok(sample.rate)
}

/// P2: one caller, one call at a time: raw, mTLS, Unix socket and a bare sync, in turn.
pub async fn latency(bench: &mut Bench) -> Found {
    bench.rig.start(&[], &Module::SoftHsm)?;
    let auditor = bench.rig.client("auditor").await?;
    let from = auditor.status().await?.audit.context("no audit log")?.size;
    let [raw, tls, unix, sync] = in_turn(bench, true).await?;
    let hsm = hsm_times(&auditor, from).await?;
    let woken = tokio::task::block_in_place(|| wake_ups(bench.pick(100, 1000)))?;
    let module = bench.null(0);
    bench.rig.start(&[], &module)?;
    let [_, null_tls, null_unix, null_sync] = in_turn(bench, false).await?;
    let added = |sample: &Sample, quantile| round(sample.ms(quantile) - raw.ms(quantile));
    let value = json!({ "p50": added(&tls, 0.5), "p99": added(&tls, 0.99) });
    let is_met = tls.ms(0.5) - raw.ms(0.5) <= 0.3 && tls.ms(0.99) - raw.ms(0.99) <= 1.0;
    let of = |sample: &Sample| json!([round(sample.ms(0.5)), round(sample.ms(0.99))]);
    let detail = json!({
        "raw p50, p99": of(&raw),
        "mTLS": of(&tls),
        "Unix": of(&unix),
        "added over Unix": [added(&unix, 0.5), added(&unix, 0.99)],
        "the module in kekd's worker, by its records": of(&hsm),
        "sync alone": of(&sync),
        "on the module that costs nothing: mTLS": of(&null_tls),
        "Unix ": of(&null_unix),
        "sync alone ": of(&null_sync),
        "one wake of a thread, this machine idle for 4 ms": of(&woken),
        "calls": raw.latency.len().max(null_tls.latency.len()),
    });
    Ok((value, is_met, detail))
}

/// What the module took for each unwrap from one record on.
async fn hsm_times(auditor: &Client, mut from: u64) -> anyhow::Result<Sample> {
    let mut latency = histogram()?;
    loop {
        let page = auditor
            .read_records(from, v1::RecordFilter::default())
            .await?;
        for record in &page.records {
            latency.record(v1::Record::decode(record.as_slice())?.hsm_us)?;
        }
        from = page.next;
        if from >= page.size {
            return Ok(Sample::new(latency, 1.0));
        }
    }
}

/// How long a thread takes to wake that another calls, after the processors had as long to fall asleep
/// as an operation of the HSM gives those of kekd. An unwrap takes seven such wakes.
fn wake_ups(count: usize) -> anyhow::Result<Sample> {
    const IDLE: Duration = Duration::from_millis(4);
    let (call, called) = std::sync::mpsc::channel::<Instant>();
    let sleeper = std::thread::spawn(move || {
        let mut latency = histogram()?;
        for called_at in called {
            latency.record(micros(called_at.elapsed()))?;
        }
        anyhow::Ok(latency)
    });
    for _ in 0..count {
        std::thread::sleep(IDLE);
        call.send(Instant::now())?;
    }
    drop(call);
    let latency = sleeper.join().ok().context("a thread panicked")??;
    Ok(Sample::new(latency, 1.0))
}

async fn in_turn(bench: &Bench, with_raw: bool) -> anyhow::Result<[Sample; 4]> {
    let tls = bench.rig.clients(Door::Tls, 1).await?;
    let unix = bench.rig.clients(Door::Unix, 1).await?;
    let caller = bench.raw.caller(bench.kek.object_id()?)?;
    let file = fs::File::create(bench.home.join("sync-probe"))?;
    let page = vec![0x5a; COMMIT_LEN];
    let mut seen = [histogram()?, histogram()?, histogram()?, histogram()?];
    let count = bench.pick(200, 3000);
    let warm = count / 10;
    for (number, call) in (0_u64..count).zip(bench.calls.iter().cycle()) {
        let mut took = [Duration::ZERO; 4];
        let [raw_took, tls_took, unix_took, sync_took] = &mut took;
        if with_raw {
            let began = Instant::now();
            tokio::task::block_in_place(|| caller.decrypt(call))?;
            *raw_took = began.elapsed();
        }
        for (clients, took) in [(&tls, tls_took), (&unix, unix_took)] {
            if let Some(client) = clients.first() {
                let began = Instant::now();
                client.unwrap(call.clone()).await?;
                *took = began.elapsed();
            }
        }
        let began = Instant::now();
        tokio::task::block_in_place(|| {
            file.write_all_at(&page, number * COMMIT_LEN as u64)?;
            file.sync_data()
        })?;
        *sync_took = began.elapsed();
        if number >= warm {
            for (histogram, took) in seen.iter_mut().zip(took) {
                histogram.record(micros(took))?;
            }
        }
    }
    Ok(seen.map(|latency| Sample::new(latency, 1.0)))
}

/// P3: what kekd can do by itself, against a server that does nothing.
pub async fn ceiling(bench: &mut Bench) -> Found {
    let module = bench.null(0);
    bench.rig.start(&[], &module)?;
    let echo = Peer::start(&bench.rig)?;
    let (times, calls) = (bench.times(), &bench.calls);
    let peers = echo.clients(&bench.rig, 16).await?;
    let tls = bench.rig.clients(Door::Tls, 16).await?;
    let [daemon, worker] = bench.rig.pids().await?;
    let (mut unaries, mut streamed, mut echoes) = (Vec::new(), Vec::new(), Vec::new());
    let mut costs = [const { Vec::new() }; 2];
    for _ in 0..bench.pick(3, 5) {
        let echo = unary(&peers, calls, 64, times).await?;
        let before = [processor_seconds(daemon)?, processor_seconds(worker)?];
        let kekd = unary(&tls, calls, 64, times).await?;
        let after = [processor_seconds(daemon)?, processor_seconds(worker)?];
        let stream = streams(tls.get(..STREAMS).unwrap_or_default(), calls, times).await?;
        let seconds: f64 = times.iter().map(Duration::as_secs_f64).sum();
        for (cost, (before, after)) in costs.iter_mut().zip(before.iter().zip(after)) {
            cost.push((after - before) / (kekd.rate * seconds) * 1000.0);
        }
        unaries.push(kekd.rate / echo.rate);
        streamed.push(stream.rate / echo.rate);
        echoes.push(echo.rate.round());
    }
    let (unary, stream) = (median(unaries), median(streamed));
    let [daemon, worker] = costs.map(median);
    let value = json!({ "unary": round(unary), "streamed": round(stream) });
    let detail = json!({
        "echo op/s": echoes,
        "processor ms per unary call: daemon": round(daemon),
        "worker": round(worker),
        "callers": 64,
        "streams": STREAMS,
    });
    Ok((value, unary >= 0.6 && stream >= 2.0, detail))
}

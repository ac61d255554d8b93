//! P6, P8 and P9: a kill switch, too many calls, and a bulk export beside people who wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kekd::client::{Client, UnwrapCall};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::bench::{Bench, Found};
use crate::load::{
    Offered, Sample, Window, histogram, median, micros, open_loop, stream, streams, unary,
};
use crate::report::round;
use crate::rig::{Door, Module, kekctl, sign};

/// Rounds of P9: what else the machine does is not to be taken for kekd's.
const ROUNDS: usize = 3;
/// KEKs that are made to be stopped.
pub const STOPPED: [&str; 3] = ["stop-0", "stop-1", "stop-2"];

/// P6: an officer's stop under load. Its statements are signed before.
pub async fn kill_switch(bench: &mut Bench) -> Found {
    bench.rig.start(&[], &Module::SoftHsm)?;
    let officer = bench.rig.client("officer").await?;
    let mut acknowledged = Vec::new();
    let (mut begun_after, mut arrived_after) = (0, 0);
    let mut last_ms = 0.0_f64;
    for name in STOPPED {
        let statement = bench.home.join(format!("{name}.statement"));
        let path = statement.display().to_string();
        let arguments = [
            "suspend",
            name,
            "--officer",
            "alice",
            "--statement-out",
            &path,
        ];
        kekctl(&bench.rig, "officer", arguments)?;
        let text = std::fs::read(&statement)?;
        let signature = sign(&bench.rig.file("officers/alice"), "suspension@kekd", &text)?;

        let kek = bench.rig.kek(name).await?;
        let calls = Arc::new(kek.calls()?);
        let clients = bench.rig.clients(Door::Tls, 16).await?;
        let load = Load::start(&clients, &calls);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let asked = Instant::now();
        officer.suspend(text, signature).await?;
        let took = asked.elapsed();
        load.acknowledged();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (begun, arrived, last) = load.end().await?;
        begun_after += begun;
        arrived_after += arrived;
        last_ms = last_ms.max(last);
        acknowledged.push(took.as_secs_f64() * 1000.0);
    }
    let worst = acknowledged.iter().copied().fold(0.0, f64::max);
    let value = json!({
        "unwraps begun after it": begun_after,
        "acknowledgement ms": round(median(acknowledged.clone())),
    });
    let detail = json!({
        "acknowledgements ms": acknowledged.iter().copied().map(round).collect::<Vec<_>>(),
        "answers read after it, of calls begun before": arrived_after,
        "the last of them, ms after": round(last_ms),
        "callers": 16,
    });
    Ok((value, begun_after == 0 && worst <= 20.0, detail))
}

/// Callers who go on until they are stopped, and what reached them when.
struct Load {
    epoch: Instant,
    /// Microseconds from the epoch; `u64::MAX` until it is there.
    acknowledged_at: Arc<AtomicU64>,
    window: Window,
    tasks: JoinSet<(u64, u64, f64)>,
}

impl Load {
    fn start(clients: &[Client], calls: &Arc<Vec<UnwrapCall>>) -> Self {
        let epoch = Instant::now();
        let acknowledged_at = Arc::new(AtomicU64::new(u64::MAX));
        let window = Window::default();
        let mut tasks = JoinSet::new();
        for client in clients {
            let client = client.clone();
            let (calls, window) = (Arc::clone(calls), window.clone());
            let acknowledged_at = Arc::clone(&acknowledged_at);
            tasks.spawn(async move {
                let (mut begun, mut arrived, mut last) = (0, 0, 0.0_f64);
                for call in calls.iter().cycle() {
                    if window.is_over() {
                        break;
                    }
                    let sent = micros(epoch.elapsed());
                    let answer = client.unwrap(call.clone()).await;
                    let read = micros(epoch.elapsed());
                    let limit = acknowledged_at.load(Ordering::SeqCst);
                    match answer {
                        Ok(_) if sent > limit => begun += 1,
                        Ok(_) if read > limit => {
                            arrived += 1;
                            last = last.max((read - limit) as f64 / 1000.0);
                        }
                        Ok(_) => {}
                        Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
                    }
                }
                (begun, arrived, last)
            });
        }
        Self {
            epoch,
            acknowledged_at,
            window,
            tasks,
        }
    }

    fn acknowledged(&self) {
        let now = micros(self.epoch.elapsed());
        self.acknowledged_at.store(now, Ordering::SeqCst);
    }

    async fn end(mut self) -> anyhow::Result<(u64, u64, f64)> {
        self.window.end();
        let mut sum = (0, 0, 0.0_f64);
        while let Some(seen) = self.tasks.join_next().await {
            let (begun, arrived, last) = seen?;
            sum = (sum.0 + begun, sum.1 + arrived, sum.2.max(last));
        }
        Ok(sum)
    }
}

/// P8: five times as many calls as can be served, whether or not anybody comes back later.
pub async fn overload(bench: &mut Bench) -> Found {
    bench.rig.start(&[], &Module::SoftHsm)?;
    let (value, soft) = overloaded(bench, bench.sessions * 4).await?;
    let module = bench.null(10);
    let lines = [("hsm", "sessions = 8".to_owned())];
    bench.rig.start(&lines, &module)?;
    let (of_network, network) = overloaded(bench, 64).await?;
    let detail = json!({
        "SoftHSM, on the processors of its callers": soft,
        "latency module, 8 sessions of 10 ms": network,
    });
    let is_met = value.min(of_network) >= 0.95;
    let value = json!({ "SoftHSM": round(value), "latency module": round(of_network) });
    Ok((value, is_met, detail))
}

async fn overloaded(bench: &Bench, callers: usize) -> anyhow::Result<(f64, Value)> {
    let clients = bench.rig.clients(Door::Tls, 32).await?;
    let (times, calls) = (bench.times(), &bench.calls);
    let mut goodputs = Vec::new();
    let mut found = Value::Null;
    for _ in 0..bench.pick(2, 4) {
        let before = unary(&clients, calls, callers, times).await?.rate;
        let (offered, seconds) = open_loop(&clients, calls, before * 5.0, 1000, times).await?;
        // Before or after, whichever was the less disturbed: else a busy machine flatters.
        let capacity = before.max(unary(&clients, calls, callers, times).await?.rate);
        let status = bench.rig.client("operator").await?.status().await?;
        let per_second = |counter| (Offered::get(counter) / seconds).round();
        goodputs.push(Offered::get(&offered.served) / seconds / capacity);
        found = json!({
            "capacity op/s": capacity.round(),
            "answered": per_second(&offered.sent),
            "served": per_second(&offered.served),
            "refused": per_second(&offered.refused),
            "refused without a retry delay": Offered::get(&offered.without_delay),
            "failed": Offered::get(&offered.failed),
            "not sent, 1000 were under way": per_second(&offered.held_back),
            "queue after": status.token.map(|token| token.queue_len),
        });
    }
    Ok((median(goodputs), found))
}

/// P9: people who wait, beside streams that take all they can get.
pub async fn beside_bulk(bench: &mut Bench) -> Found {
    bench.rig.start(&[], &Module::SoftHsm)?;
    let object_id = bench.kek.object_id()?;
    let operation = bench
        .raw
        .run(1, object_id, &bench.calls, bench.times())?
        .ms(0.5);
    let interactive = bench.rig.clients(Door::Tls, 1).await?;
    let other = bench.rig.clients(Door::Unix, 1).await?;
    let bulk = bench.rig.clients(Door::Tls, 2).await?;

    let mut seen = [const { Vec::new() }; 3];
    let mut bulk_rates = Vec::new();
    for _ in 0..ROUNDS {
        let idle = paced(bench, &interactive).await?;
        let window = Window::default();
        let mut tasks = JoinSet::new();
        for client in &bulk {
            let (client, calls) = (client.clone(), Arc::clone(&bench.calls));
            tasks.spawn(stream(client, calls, window.clone()));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let same = paced(bench, &interactive).await?;
        let another = paced(bench, &other).await?;
        window.end();
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        for (seen, sample) in seen.iter_mut().zip([idle, another, same]) {
            seen.push([sample.ms(0.5), sample.ms(0.99)]);
        }
        bulk_rates.push(streams(&bulk, &bench.calls, bench.times()).await?.rate);
    }
    let [idle, another, same] = seen.map(|seen: Vec<[f64; 2]>| {
        let of = |at: fn(&[f64; 2]) -> f64| median(seen.iter().map(at).collect());
        [of(|[p50, _]| *p50), of(|[_, p99]| *p99)]
    });
    let more = |[_, p99]: [f64; 2]| (p99 - idle[1]) / operation;
    let value =
        json!({ "another caller": round(more(another)), "the same caller": round(more(same)) });
    let is_met = more(another) <= 2.0 && more(same) <= 2.0;
    let detail = json!({
        "operation ms": round(operation),
        "idle p50, p99": idle.map(round),
        "another caller": another.map(round),
        "the same caller": same.map(round),
        "bulk op/s": median(bulk_rates).round(),
        "streams": bulk.len(),
        "rounds, the median of each": ROUNDS,
    });
    Ok((value, is_met, detail))
}

/// One call every 20 ms.
async fn paced(bench: &Bench, clients: &[Client]) -> anyhow::Result<Sample> {
    let mut latency = histogram()?;
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let count = bench.pick(40, 300);
    for (call, client) in bench
        .calls
        .iter()
        .cycle()
        .zip(clients.iter().cycle())
        .take(count)
    {
        tick.tick().await;
        let began = Instant::now();
        client.unwrap(call.clone()).await?;
        latency.record(micros(began.elapsed()))?;
    }
    Ok(Sample::new(latency, 1.0))
}

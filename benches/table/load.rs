//! Load through gRPC: callers in closed loops, streams kept full, and calls at a fixed rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use kekd::client::{Client, ClientError, UnwrapCall};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

/// Requests a stream has under way. All streams together stay within one caller's share of the bulk
/// lane: what is beyond it is refused.
pub const UNDER_WAY: usize = 32;

/// What one window saw.
pub struct Sample {
    /// Latency of each call, in microseconds.
    pub latency: Histogram<u64>,
    /// Calls a second.
    pub rate: f64,
}

impl Sample {
    pub fn new(latency: Histogram<u64>, seconds: f64) -> Self {
        let rate = latency.len() as f64 / seconds;
        Self { latency, rate }
    }

    /// A quantile in milliseconds.
    pub fn ms(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// One microsecond to one minute, three digits.
pub fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

/// A duration for a histogram.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros())
        .unwrap_or(60_000_000)
        .clamp(1, 60_000_000)
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// When what is seen counts.
#[derive(Clone, Default)]
pub struct Window {
    open: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Window {
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Lets time go by, and says how many seconds counted.
    async fn pass(&self, [warm, window]: [Duration; 2]) -> f64 {
        tokio::time::sleep(warm).await;
        self.open.store(true, Ordering::Relaxed);
        let began = Instant::now();
        tokio::time::sleep(window).await;
        self.open.store(false, Ordering::Relaxed);
        let seconds = began.elapsed().as_secs_f64();
        self.end();
        seconds
    }
}

/// So many callers, each with one call at a time, spread over the connections. A caller that is
/// told to come back later does.
pub async fn unary(
    clients: &[Client],
    calls: &Arc<Vec<UnwrapCall>>,
    callers: usize,
    times: [Duration; 2],
) -> anyhow::Result<Sample> {
    let window = Window::default();
    let mut tasks = JoinSet::new();
    for (number, client) in (0..callers).zip(clients.iter().cycle()) {
        let (client, calls, window) = (client.clone(), Arc::clone(calls), window.clone());
        tasks.spawn(async move {
            let mut seen = histogram()?;
            for call in calls.iter().cycle().skip(number) {
                if window.is_over() {
                    break;
                }
                let began = Instant::now();
                match client.unwrap(call.clone()).await {
                    Ok(_) if window.is_open() => seen.record(micros(began.elapsed()))?,
                    Ok(_) => {}
                    Err(error) => wait_as_told(error).await?,
                }
            }
            anyhow::Ok(seen)
        });
    }
    let seconds = window.pass(times).await;
    collect(tasks, seconds).await
}

async fn wait_as_told(error: ClientError) -> anyhow::Result<()> {
    let ClientError::Refused(refusal) = error else {
        return Err(error.into());
    };
    let delay = refusal.retry_delay;
    tokio::time::sleep(delay.with_context(|| refusal.reason.clone())?).await;
    Ok(())
}

/// One stream for each connection, kept full. Only the rate is of interest.
pub async fn streams(
    clients: &[Client],
    calls: &Arc<Vec<UnwrapCall>>,
    times: [Duration; 2],
) -> anyhow::Result<Sample> {
    let window = Window::default();
    let mut tasks = JoinSet::new();
    for client in clients {
        tasks.spawn(stream(client.clone(), Arc::clone(calls), window.clone()));
    }
    let seconds = window.pass(times).await;
    collect(tasks, seconds).await
}

/// One stream, kept full until the window is over.
pub async fn stream(
    client: Client,
    calls: Arc<Vec<UnwrapCall>>,
    window: Window,
) -> anyhow::Result<Histogram<u64>> {
    let mut seen = histogram()?;
    let (send, sent) = mpsc::channel(UNDER_WAY);
    let mut next = calls.iter().cycle();
    for _ in 0..UNDER_WAY {
        if let Some(call) = next.next() {
            send.try_send(call.clone()).ok();
        }
    }
    let mut answers = client.unwrap_stream(ReceiverStream::new(sent)).await?;
    while let Some(answer) = answers.next().await {
        match answer?.outcome {
            Ok(_) if window.is_open() => seen.record(1)?,
            Ok(_) => {}
            Err(refusal) => wait_as_told(ClientError::Refused(Box::new(refusal))).await?,
        }
        if window.is_over() {
            return Ok(seen);
        }
        if let Some(call) = next.next() {
            send.send(call.clone()).await?;
        }
    }
    bail!("the stream ended")
}

async fn collect(
    mut tasks: JoinSet<anyhow::Result<Histogram<u64>>>,
    seconds: f64,
) -> anyhow::Result<Sample> {
    let mut latency = histogram()?;
    while let Some(seen) = tasks.join_next().await {
        latency.add(seen??)?;
    }
    Ok(Sample::new(latency, seconds))
}

/// What became of calls that came at a fixed rate.
#[derive(Default)]
pub struct Offered {
    pub sent: AtomicU64,
    pub served: AtomicU64,
    pub refused: AtomicU64,
    /// Refusals that named no time to come back.
    pub without_delay: AtomicU64,
    pub failed: AtomicU64,
    /// Not sent: the client itself had no stream left.
    pub held_back: AtomicU64,
}

/// Sends calls at a fixed rate, whatever becomes of them; at most `in_flight_max` wait for an answer.
pub async fn open_loop(
    clients: &[Client],
    calls: &Arc<Vec<UnwrapCall>>,
    rate: f64,
    in_flight_max: usize,
    times: [Duration; 2],
) -> anyhow::Result<(Arc<Offered>, f64)> {
    let offered = Arc::new(Offered::default());
    let window = Window::default();
    let places = Arc::new(tokio::sync::Semaphore::new(in_flight_max));
    let sender = {
        let (offered, window) = (Arc::clone(&offered), window.clone());
        let (clients, calls) = (clients.to_vec(), Arc::clone(calls));
        tokio::spawn(async move {
            let began = Instant::now();
            let mut sent = 0_u64;
            let mut pairs = clients.iter().cycle().zip(calls.iter().cycle());
            while !window.is_over() {
                let due = began.elapsed().as_secs_f64() * rate;
                while (sent as f64) < due {
                    sent += 1;
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                        offered
                            .held_back
                            .fetch_add(u64::from(window.is_open()), Ordering::Relaxed);
                        continue;
                    };
                    let Some((client, call)) = pairs.next() else {
                        return;
                    };
                    let (client, call) = (client.clone(), call.clone());
                    let (offered, window) = (Arc::clone(&offered), window.clone());
                    tokio::spawn(async move {
                        let answer = client.unwrap(call).await;
                        drop(place);
                        if window.is_open() {
                            offered.count(answer.map(drop));
                        }
                    });
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    };
    let seconds = window.pass(times).await;
    sender.await?;
    Ok((offered, seconds))
}

impl Offered {
    fn count(&self, answer: Result<(), ClientError>) {
        let add = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        add(&self.sent);
        match answer {
            Ok(()) => add(&self.served),
            Err(ClientError::Refused(refusal)) => {
                if refusal.retry_delay.is_none() {
                    add(&self.without_delay);
                }
                add(&self.refused)
            }
            Err(_) => add(&self.failed),
        };
    }

    pub fn get(counter: &AtomicU64) -> f64 {
        counter.load(Ordering::Relaxed) as f64
    }
}

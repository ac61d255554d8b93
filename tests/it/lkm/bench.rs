//! How much of the raw module's throughput is left behind HTTPS, Hawk, gRPC and the audit record, and
//! what kekd alone leaves; in one run, in turns. `make bench-lkm` runs it; nothing is asserted, since a
//! clock on a shared machine decides nothing.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use kekd::lkm::credentials::Lane;
use kekd::types::Padding;

use super::front::{Front, body, post};
use crate::harness::{Kek, Rig, test_module};

const TURN: Duration = Duration::from_secs(2);
const TURNS: usize = 7;
const CALLERS: usize = 16;

/// How often `one` ends well in one turn, by so many callers; and the median of its time.
async fn rate<F>(callers: usize, one: impl Fn(usize) -> F) -> (f64, Duration)
where
    F: Future<Output = Vec<Duration>> + Send + 'static,
{
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..callers {
        tasks.spawn(one(number));
    }
    let mut times: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    times.sort_unstable();
    (rate, times[times.len() / 2])
}

/// What was measured in one turn: operations in a second, and the medians of one caller's in ms.
struct Turn {
    raw: f64,
    kekd: f64,
    kekd_lkm: f64,
    bulk: f64,
    lone_raw: f64,
    lone_kekd: f64,
    lone_kekd_lkm: f64,
}

struct Bench {
    rig: Rig,
    front: Front,
    kek: Arc<Kek>,
    bulk: String,
    module: String,
}

impl Bench {
    async fn direct(&self, callers: usize) -> (f64, Duration) {
        let client = self.rig.local().await;
        let call = self.kek.call(Padding::OaepSha1, &[1; 32]);
        rate(callers, |_| {
            let (client, call) = (client.clone(), call.clone());
            async move {
                let (began, mut times) = (Instant::now(), Vec::new());
                while began.elapsed() < TURN {
                    let at = Instant::now();
                    client.unwrap(call.clone()).await.unwrap();
                    times.push(at.elapsed());
                }
                times
            }
        })
        .await
    }

    async fn through(&self, callers: usize, id: &str, key: &str) -> (f64, Duration) {
        let body = body(
            self.kek.keypair_id,
            &self.kek.wrap(Padding::OaepSha1, &[1; 32]),
        );
        rate(callers, |_| {
            let (caller, target) = (self.front.caller(), self.front.target.clone());
            let (id, key, body) = (id.to_owned(), key.to_owned(), body.clone());
            async move {
                let mut connection = caller.connect().await.unwrap();
                let (began, mut times) = (Instant::now(), Vec::new());
                while began.elapsed() < TURN {
                    let call = post(&target, &id, &key, body.clone());
                    let at = Instant::now();
                    assert_eq!(connection.send(call).await.unwrap().status, 200);
                    times.push(at.elapsed());
                }
                times
            }
        })
        .await
    }

    /// The same token, key and padding in a process of its own: this very test binary. How often it
    /// decrypts in a second, and the median of its time in ms.
    fn raw(&self, sessions: usize) -> (f64, f64) {
        let test = "lkm::bench::raw_module";
        let mut command = self
            .rig
            .token_command(std::env::current_exe().unwrap().to_str().unwrap());
        command.args([test, "--exact", "--ignored", "--nocapture"]);
        command.env("KEKD_BENCH_PIN", self.rig.pin());
        command.env("KEKD_BENCH_ID", self.kek.cka_id());
        command.env("KEKD_BENCH_SESSIONS", sessions.to_string());
        command.env("KEKD_BENCH_MODULE", &self.module);
        command.envs(self.rig.environment.iter().cloned());
        let wrapped = self.kek.wrap(Padding::OaepSha1, &[1; 32]);
        let hex: String = wrapped.iter().map(|byte| format!("{byte:02x}")).collect();
        let output = command.env("KEKD_BENCH_WRAPPED", hex).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = said.split("RAW ").nth(1).expect(&said);
        let mut figures = said.split_whitespace().map(|it| it.parse().unwrap());
        (figures.next().unwrap(), figures.next().unwrap())
    }
}

/// The median over all turns of what `figure` makes of one: a ratio or a difference of figures that
/// were measured right after each other, since the machine is another one a minute later.
fn median<T>(turns: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = turns.iter().map(figure).collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a benchmark: make bench-lkm"]
async fn throughput() {
    let cores = std::thread::available_parallelism().unwrap().get();
    // The first is an HSM that does its work elsewhere and takes 10 ms for it.
    for (sessions, latency_ms) in [(8, Some(10)), (cores.div_ceil(2), None), (cores, None)] {
        let mut rig = Rig::stopped();
        rig.set("hsm", &format!("sessions = {sessions}"));
        let mut module = rig.token.module().display().to_string();
        if let Some(ms) = latency_ms {
            let null = test_module("kekd_test_null").display().to_string();
            rig.edit("kekd.toml", |text| text.replace(&module, &null));
            rig.environment
                .push(("PKCS11_NULL_LATENCY_MS".to_owned(), format!("{ms}")));
            module = null;
        }
        rig.start();
        let mut front = Front::stopped(&rig);
        // As on one host, where no certificate is needed between the two; kekd alone is asked so, too.
        front.ask_over_unix_socket(&rig);
        front.set("limits", "requests_per_s_of_credential", 100_000);
        front.set("limits", "requests_per_s_of_address", 100_000);
        front.set("hawk", "nonces_max", 1_000_000);
        let bulk = front.add("cloud-bulk", "recordings", Lane::Bulk);
        front.start();
        front.is_ready().await;
        let kek = Arc::new(Kek::of(&rig.client("lkm-1").await, "recordings").await);
        let bench = Bench {
            rig,
            front,
            kek,
            bulk,
            module,
        };
        // 16 callers hardly keep 8 sessions busy; more than 32 the front-end's bulk lane does not take.
        let callers = CALLERS * if latency_ms.is_some() { 2 } else { 1 };
        let (id, key) = (bench.front.id.clone(), bench.front.key.clone());
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let mut turns = Vec::new();
        for _ in 0..TURNS {
            turns.push(Turn {
                raw: bench.raw(sessions).0,
                kekd: bench.direct(callers).await.0,
                kekd_lkm: bench.through(callers, &id, &key).await.0,
                bulk: bench.through(callers, "cloud-bulk", &bench.bulk).await.0,
                lone_raw: bench.raw(1).1,
                lone_kekd: ms(bench.direct(1).await.1),
                lone_kekd_lkm: ms(bench.through(1, &id, &key).await.1),
            });
        }
        let of = |figure: fn(&Turn) -> f64| median(&turns, figure);
        eprintln!(
            "{sessions} sessions, {cores} processors, {}: raw {:.0}/s; kekd/raw {:.3}; kekd-lkm/raw {:.3}; \
             kekd-lkm bulk/raw {:.3}; kekd-lkm/kekd {:.3}; one caller's p50: raw {:.2} ms, over it kekd {:+.2}, \
             kekd-lkm {:+.2}",
            latency_ms.map_or("SoftHSM".to_owned(), |ms| format!(
                "latency module of {ms} ms"
            )),
            of(|turn| turn.raw),
            of(|turn| turn.kekd / turn.raw),
            of(|turn| turn.kekd_lkm / turn.raw),
            of(|turn| turn.bulk / turn.raw),
            of(|turn| turn.kekd_lkm / turn.kekd),
            of(|turn| turn.lone_raw),
            of(|turn| turn.lone_kekd - turn.lone_raw),
            of(|turn| turn.lone_kekd_lkm - turn.lone_raw),
        );
    }
}

#[test]
#[ignore = "a part of the benchmark: it runs this one itself"]
#[expect(
    clippy::disallowed_methods,
    reason = "what the benchmark tells this process"
)]
fn raw_module() {
    let said = |name: &str| std::env::var(format!("KEKD_BENCH_{name}"));
    let (Ok(module), Ok(pin), Ok(id), Ok(wrapped)) =
        (said("MODULE"), said("PIN"), said("ID"), said("WRAPPED"))
    else {
        return;
    };
    let bytes = |hex: &str| -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        digits
            .map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    };
    let (id, wrapped) = (bytes(&id), bytes(&wrapped));
    let sessions: usize = said("SESSIONS").unwrap().parse().unwrap();
    let pkcs11 = Pkcs11::new(module).unwrap();
    pkcs11
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .unwrap();
    let slot = pkcs11.get_slots_with_initialized_token().unwrap()[0];
    let keeper = pkcs11.open_ro_session(slot).unwrap();
    keeper
        .login(UserType::User, Some(&AuthPin::new(pin.into_boxed_str())))
        .unwrap();
    let began = Instant::now();
    let threads: Vec<_> = (0..sessions)
        .map(|_| {
            let (pkcs11, id, wrapped) = (pkcs11.clone(), id.clone(), wrapped.clone());
            std::thread::spawn(move || {
                let session = pkcs11.open_ro_session(slot).unwrap();
                let wanted = [
                    Attribute::Class(ObjectClass::PRIVATE_KEY),
                    Attribute::Id(id),
                ];
                let key = session.find_objects(&wanted).unwrap()[0];
                let source = PkcsOaepSource::empty();
                let params =
                    PkcsOaepParams::new(MechanismType::SHA1, PkcsMgfType::MGF1_SHA1, source);
                let mechanism = Mechanism::RsaPkcsOaep(params);
                let (began, mut times) = (Instant::now(), Vec::new());
                while began.elapsed() < TURN {
                    let at = Instant::now();
                    assert_eq!(session.decrypt(&mechanism, key, &wrapped).unwrap(), [1; 32]);
                    times.push(at.elapsed().as_secs_f64() * 1e3);
                }
                times
            })
        })
        .collect();
    let times = threads.into_iter().map(|thread| thread.join().unwrap());
    let times: Vec<f64> = times.flatten().collect();
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    // On standard output, for who started this.
    let line = format!("RAW {rate} {}\n", median(&times, |time| *time));
    std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes()).unwrap();
}

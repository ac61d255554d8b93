//! The front-end: one request, from its head to its answer, in steps that are numbered. What is not
//! authenticated is not read; what is read is bounded; what kekd is asked is bound to who asks. The
//! invariant: bad bodies, unknown keys and ciphertexts that do not unwrap are one answer.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use tokio::sync::{Notify, watch};
use tracing::{debug, info, warn};

use super::answer::Answer;
use super::config::LkmConfig;
use super::credentials::{Credential, Credentials};
use super::directory::Directory;
use super::hawk::{Authenticated, NotAuthentic, Seen, Verifier, payload_hash};
use super::kekd::{Kekd, NoDek};
use super::message::{DecryptRequest, is_json, text};
use super::metrics::Metrics;
use super::rate::Rate;
use super::readiness::Readiness;
use crate::client::{ClientError, UnwrapCall};
use crate::clock::Clock;
use crate::slots::PeerKey;
use crate::types::{EndUser, RequestId};

/// Refusals that are logged in a second; the others are counted only.
const REFUSALS_SAID_PER_S: u32 = 20;

/// What one `kekd-lkm` is.
pub struct FrontEnd {
    /// What it was told.
    pub config: LkmConfig,
    /// Who may ask; replaced whole.
    pub credentials: ArcSwap<Credentials>,
    /// The way to kekd.
    pub kekd: Kekd,
    /// Which KEK a key pair belongs to.
    pub directory: Directory,
    /// What is counted.
    pub metrics: Metrics,
    verifier: Verifier,
    readiness: ArcSwap<Readiness>,
    /// What is wrong with the files, where what was loaded before is in force.
    files_fault: ArcSwapOption<String>,
    /// Told where kekd gave no DEK for a reason of its own: the next canary is due. What a caller asked
    /// for too often is none, or one credential would decide how often that is.
    doubt: Notify,
    /// True once nobody waits for kekd any more.
    given_up: watch::Sender<bool>,
    of_credential: Rate<String>,
    of_address: Rate<PeerKey>,
    said: Rate<()>,
    /// What of the protocol was met, by credential; each is logged once, and of the secrets once after
    /// each load: which one "newer" means is another after a rotation.
    met: Mutex<HashSet<(String, &'static str, &'static str)>>,
}

/// Why a request is refused, with the answer it gets. The text is for the log.
struct Refused {
    answer: Answer,
    why: String,
}

impl Refused {
    fn new(answer: Answer, why: impl ToString) -> Self {
        Self {
            answer,
            why: why.to_string(),
        }
    }

    fn unknown(why: NotAuthentic) -> Self {
        let text = why.to_string();
        let answer = if why == NotAuthentic::BeforeStart {
            // Not a word against the caller: it is this process that cannot know.
            Answer::Unavailable {
                retry_after_s: None,
            }
        } else {
            Answer::Unknown(Box::new(why))
        };
        Self { answer, why: text }
    }

    fn unavailable(why: impl ToString) -> Self {
        Self::new(
            Answer::Unavailable {
                retry_after_s: None,
            },
            why,
        )
    }
}

/// A request but for its body.
struct Head<'a> {
    method: &'a Method,
    uri: &'a http::Uri,
    headers: &'a HeaderMap,
}

impl FrontEnd {
    /// Must be called inside a runtime.
    ///
    /// # Errors
    /// Where kekd's endpoint is none.
    pub fn new(config: LkmConfig, credentials: Credentials) -> Result<Self, ClientError> {
        let (https, limits) = (&config.https, &config.limits);
        Ok(Self {
            credentials: ArcSwap::from_pointee(credentials),
            kekd: Kekd::new(&config.kekd, limits)?,
            directory: Directory::default(),
            metrics: Metrics::default(),
            verifier: Verifier {
                host: https.public_host.clone(),
                port: https.public_port,
                skew_s_max: config.hawk.skew_s_max,
                signed_path: config.hawk.signed_path,
                began_s: now_s(),
            },
            readiness: ArcSwap::default(),
            files_fault: ArcSwapOption::empty(),
            doubt: Notify::new(),
            given_up: watch::Sender::new(false),
            of_credential: Rate::new(limits.requests_per_s_of_credential),
            of_address: Rate::new(limits.requests_per_s_of_address),
            said: Rate::new(REFUSALS_SAID_PER_S),
            met: Mutex::default(),
            config,
        })
    }

    /// Whether it could answer now.
    pub fn readiness(&self) -> Readiness {
        let mut readiness = Readiness::clone(&self.readiness.load());
        let fault = self.files_fault.load();
        readiness.problems.extend(fault.as_deref().cloned());
        readiness
    }

    /// Takes these instead of those before, with what is known of their secrets: nothing.
    pub(super) fn set_credentials(&self, credentials: Credentials) {
        self.credentials.store(credentials.into());
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.retain(|(_, what, _)| *what != "secret");
    }

    /// Says what is wrong with the files, or that nothing is any more.
    pub(super) fn set_files_fault(&self, fault: Option<String>) {
        self.files_fault.store(fault.map(Arc::new));
    }

    /// Whether what is in force is what the files say.
    pub(super) fn has_files_fault(&self) -> bool {
        self.files_fault.load().is_some()
    }

    /// Waits until a request met a kekd that does not serve.
    pub(super) async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// Answers everything that is under way, and whatever comes, with "try again".
    pub(super) fn give_up(&self) {
        self.given_up.send_replace(true);
    }

    async fn is_given_up(&self) {
        // The sender lives as long as this.
        drop(
            self.given_up
                .subscribe()
                .wait_for(|given_up| *given_up)
                .await,
        );
    }

    pub(super) fn set_readiness(&self, readiness: Readiness) {
        self.readiness.store(readiness.into());
    }

    /// Returns when requests of this very second are believed: see [`Verifier::began_s`].
    pub(super) async fn begun(&self) {
        while now_s() <= self.verifier.began_s {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Answers one request.
    pub async fn answer(
        &self,
        from: SocketAddr,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let began = Instant::now();
        let judged = tokio::select! {
            judged = self.judge(from, request, began) => judged,
            () = self.is_given_up() => Err(Refused::unavailable("this process stops")),
        };
        let answer = match judged {
            Ok(answer) => answer,
            Err(Refused { answer, why }) => {
                if self.said.allow((), began) {
                    warn!(%from, outcome = answer.outcome(), why, "refused");
                }
                answer
            }
        };
        self.metrics.count("answers", answer.outcome());
        if let Answer::Dek(_) = answer {
            self.metrics.released(began.elapsed());
        }
        answer.into_response()
    }

    async fn judge(
        &self,
        from: SocketAddr,
        request: Request<Incoming>,
        began: Instant,
    ) -> Result<Answer, Refused> {
        let (parts, body) = request.into_parts();
        let head = Head {
            method: &parts.method,
            uri: &parts.uri,
            headers: &parts.headers,
        };
        // 1. The one path, its two methods, and the address's rate.
        if head.uri.path() != self.config.https.path {
            return Err(Refused::new(Answer::NotFound, "another path"));
        }
        if ![Method::POST, Method::OPTIONS].contains(head.method) {
            return Err(Refused::new(Answer::Method, "another method"));
        }
        if !self.of_address.allow(from.ip().into(), began) {
            return Err(Refused::unavailable("the address asks too often"));
        }
        // 2. Who asks, by the head alone: nothing of a stranger's body is read.
        let caller = self.authenticate(&head)?;
        let credential = &caller.credential;
        // 3. The body, bounded in length and time.
        let timeout = Duration::from_millis(self.config.limits.request_timeout_ms);
        let body = match tokio::time::timeout(timeout, self.read(body)).await {
            Ok(body) => body?,
            Err(_) => {
                return Err(Refused::new(
                    Answer::Timeout,
                    "the body did not come in time",
                ));
            }
        };
        // Only now: an answer before the end of the body ends the connection, and may not arrive.
        if !self.of_credential.allow(credential.id.clone(), began) {
            return Err(Refused::unavailable(format!(
                "{} asks too often",
                credential.id
            )));
        }
        // 4. What the header says of the body, and that it was not said before.
        self.check_payload(&caller, &head, &body)?;
        self.note(credential, "path", caller.reading.name());
        let secret = match (credential.secrets.len(), caller.secret) {
            (1, _) => "only",
            (_, 0) => "newer",
            _ => "older",
        };
        self.note(credential, "secret", secret);
        if *head.method == Method::OPTIONS {
            return Ok(Answer::Options);
        }
        // 5. What is asked for, and that the caller may have it.
        let left = timeout.saturating_sub(began.elapsed());
        let late = |_| Refused::unavailable("kekd did not answer in time");
        tokio::time::timeout(left, self.decrypt(&head, &body, credential))
            .await
            .map_err(late)?
    }

    fn authenticate(&self, head: &Head<'_>) -> Result<Authenticated, Refused> {
        let mut sent = head.headers.get_all(AUTHORIZATION).iter();
        let header = match (
            sent.next().and_then(|value| value.to_str().ok()),
            sent.next(),
        ) {
            (Some(header), None) => header,
            _ => return Err(Refused::unknown(NotAuthentic::Missing)),
        };
        let credentials = self.credentials.load();
        self.verifier
            .verify(
                &credentials,
                header,
                head.method.as_str(),
                head.uri,
                now_s(),
            )
            .map_err(Refused::unknown)
    }

    async fn read(&self, body: Incoming) -> Result<Bytes, Refused> {
        let max = self.config.limits.body_bytes_max;
        let too_long = || Refused::new(Answer::TooLong, "the body is too long");
        if body.size_hint().lower() > u64::try_from(max).unwrap_or(u64::MAX) {
            return Err(too_long());
        }
        match Limited::new(body, max).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(too_long()),
            Err(error) => Err(Refused::new(
                Answer::Timeout,
                format!("the body broke: {error}"),
            )),
        }
    }

    fn check_payload(
        &self,
        caller: &Authenticated,
        head: &Head<'_>,
        body: &[u8],
    ) -> Result<(), Refused> {
        let credential = &caller.credential;
        let media = head
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        if let Some(hash) = &caller.header.hash {
            // Not a secret: it is in the header that was authenticated.
            if *hash != payload_hash(media.unwrap_or_default(), body) {
                return Err(Refused::unknown(NotAuthentic::PayloadHash));
            }
        }
        let hash = if caller.header.hash.is_some() {
            "sent"
        } else {
            "absent"
        };
        self.note(credential, "hash", hash);
        let oldest = now_s().saturating_sub(self.config.hawk.skew_s_max);
        let (ts, nonce) = (caller.header.ts, &caller.header.nonce);
        match credential.nonces.remember(ts, nonce, oldest) {
            Seen::Never => Ok(()),
            Seen::Before => Err(Refused::unknown(NotAuthentic::Replay)),
            Seen::Unknown => Err(Refused::unavailable(format!(
                "there is no room for more nonces of {}; see hawk.nonces_max",
                credential.id
            ))),
        }
    }

    async fn decrypt(
        &self,
        head: &Head<'_>,
        body: &[u8],
        credential: &Credential,
    ) -> Result<Answer, Refused> {
        if !is_json(head.headers) {
            return Err(Refused::new(
                Answer::MediaType,
                "the body is not application/json",
            ));
        }
        let bad = |why: &dyn std::fmt::Display| {
            Refused::new(Answer::Bad, format!("{}: {why}", credential.id))
        };
        let place = self.config.protocol.decrypt_type;
        let request = DecryptRequest::parse(head.uri.query(), body, place);
        let request = request.map_err(|error| bad(&error))?;
        self.note(credential, "decrypt_type", request.met.name());
        let end_user = text(head.headers, "purecloud-user-id").map_err(|why| bad(&why))?;
        let end_user: EndUser = end_user
            .unwrap_or_default()
            .parse()
            .map_err(|why| bad(&why))?;
        let request_id = self.request_id(head.headers)?;

        let client = self.kekd.client().map_err(Refused::unavailable)?;
        let known = self.directory.kek_of(request.keypair_id, client).await;
        let kek = known.map_err(Refused::unavailable)?;
        // A key pair of another tenant is, to this one, unknown.
        if kek.is_none_or(|kek| !credential.keks.contains(&kek)) {
            let id = request.keypair_id;
            return Err(bad(&format!(
                "the key pair {id} is of no KEK of this credential"
            )));
        }
        let call = UnwrapCall {
            keypair_id: request.keypair_id,
            wrapped_dek: request.wrapped_dek,
            padding: request.padding,
            recipient: None,
            request_id: Some(request_id.clone()),
            end_user,
        };
        let request_id = request_id.as_str();
        match self.kekd.unwrap(credential.lane, call).await {
            Ok(dek) => {
                debug!(request_id, credential = credential.id, "released");
                Ok(Answer::Dek(dek))
            }
            Err(NoDek::Bad { reason }) => Err(bad(&format!("request {request_id}: {reason}"))),
            Err(NoDek::Unavailable {
                reason,
                retry_after_s,
                of_kekd,
            }) => {
                if of_kekd {
                    self.doubt.notify_one();
                }
                let why = format!("{}: request {request_id}: {reason}", credential.id);
                Err(Refused::new(Answer::Unavailable { retry_after_s }, why))
            }
        }
    }

    /// The caller's own id where it is one; else a new one.
    fn request_id(&self, headers: &HeaderMap) -> Result<RequestId, Refused> {
        let sent = text(headers, "x-request-id").ok().flatten();
        match sent.and_then(|id| id.parse().ok()) {
            Some(id) => Ok(id),
            None => RequestId::random().map_err(Refused::unavailable),
        }
    }

    /// Says once which reading of the protocol a caller keeps to, so that a setting can narrow it.
    fn note(&self, credential: &Credential, what: &'static str, met: &'static str) {
        self.metrics.count(what, met);
        let mut known = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if known.insert((credential.id.clone(), what, met)) {
            info!(
                credential = credential.id,
                what, met, "met in the protocol for the first time"
            );
        }
    }
}

fn now_s() -> u64 {
    Clock::System.now().0 / 1000
}

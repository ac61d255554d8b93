//! What a Local Key Manager is asked by `kekctl lkm check`, and what it must answer. Each case is one
//! request, or two that are one; none of them changes anything.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use kekd::clock::Clock;
use kekd::lkm::caller::{Call, CallError, Caller, Reply, signed, unsigned};
use kekd::lkm::hawk::{Artifacts, Header, Secret, payload_hash};
use kekd::public_key::RsaPublicKey;
use kekd::types::{KeypairId, Padding};
use serde::Serialize;

use super::trial::Trial;

const JSON: &str = "application/json";
/// Beyond any skew that a server may allow.
const FAR_S: u64 = 3600;

/// Who plays the cloud.
pub struct Cloud {
    pub caller: Caller,
    pub id: String,
    pub secret: Secret,
    pub keypair_id: KeypairId,
    pub key: RsaPublicKey,
}

/// What came of one case.
#[derive(Debug, Serialize)]
pub struct Finding {
    pub case: &'static str,
    pub expected: &'static str,
    pub found: String,
    pub ok: bool,
}

/// How a request differs from a good one.
struct Ask<'a> {
    method: Method,
    query: &'a str,
    ts: u64,
    port: u16,
    secret: &'a Secret,
    hash_of: Option<&'a [u8]>,
    content_type: &'static str,
    body: Vec<u8>,
}

type Answered = Result<Reply, CallError>;

impl Cloud {
    /// All cases, in their order.
    pub async fn play(&self) -> anyhow::Result<Vec<Finding>> {
        let mut found = Vec::new();
        self.good(&mut found).await?;
        self.strangers(&mut found).await?;
        self.bad_bodies(&mut found).await?;
        self.surroundings(&mut found).await?;
        Ok(found)
    }

    async fn good(&self, found: &mut Vec<Finding>) -> anyhow::Result<()> {
        let options = Ask {
            method: Method::OPTIONS,
            body: Vec::new(),
            ..self.ask(Vec::new())
        };
        found.push(status(
            "OPTIONS, authenticated",
            "200",
            &self.send(&options).await?,
        ));
        let trial = Trial::new(&self.key, Padding::OaepSha1)?;
        let body = self.body(trial.wrapped.as_bytes());
        let reply = self.send(&self.ask(body.clone())).await?;
        found.push(released("trial decrypt", &trial, &reply));
        let hashed = Ask {
            hash_of: Some(&body),
            ..self.ask(body.clone())
        };
        found.push(released(
            "trial decrypt, payload hashed",
            &trial,
            &self.send(&hashed).await?,
        ));
        Ok(())
    }

    async fn strangers(&self, found: &mut Vec<Finding>) -> anyhow::Result<()> {
        let trial = Trial::new(&self.key, Padding::OaepSha1)?;
        let body = self.body(trial.wrapped.as_bytes());
        let good = || self.ask(body.clone());
        let wrong = Secret::new("not the secret of anybody");
        let mut none = self.call(&good())?;
        none.authorization = None;
        let mut malformed = self.call(&good())?;
        malformed.authorization = malformed
            .authorization
            .map(|text| format!("{text}, id=\"b\""));
        let mut basic = self.call(&good())?;
        basic.authorization = Some("Basic YTpi".to_owned());
        let now = now_s();
        let cases = [
            ("no Authorization", none),
            ("another scheme", basic),
            ("an attribute twice", malformed),
            (
                "wrong secret",
                self.call(&Ask {
                    secret: &wrong,
                    ..good()
                })?,
            ),
            ("wrong port signed", self.call(&Ask { port: 80, ..good() })?),
            (
                "an hour old",
                self.call(&Ask {
                    ts: now.saturating_sub(FAR_S),
                    ..good()
                })?,
            ),
            (
                "an hour ahead",
                self.call(&Ask {
                    ts: now + FAR_S,
                    ..good()
                })?,
            ),
            (
                "wrong payload hash",
                self.call(&Ask {
                    hash_of: Some(b"other"),
                    ..good()
                })?,
            ),
            (
                "OPTIONS, wrong secret",
                self.call(&Ask {
                    method: Method::OPTIONS,
                    secret: &wrong,
                    body: Vec::new(),
                    ..good()
                })?,
            ),
        ];
        for (case, call) in cases {
            found.push(status(case, "401", &self.say(call).await?));
        }
        let replayed = self.call(&good())?;
        let first = self.say(replayed.clone()).await?;
        let again = self.say(replayed).await?;
        let mut finding = status("the same request again", "401", &again);
        finding.ok &= first
            .as_ref()
            .is_ok_and(|reply| reply.status == StatusCode::OK);
        found.push(finding);
        Ok(())
    }

    async fn bad_bodies(&self, found: &mut Vec<Finding>) -> anyhow::Result<()> {
        let modulus_len = self.key.modulus().len();
        let another = "00000000-0000-4000-8000-000000000000";
        let with_id = |id: &str, wrapped: &[u8]| {
            format!(
                r#"{{"keypairId":"{id}","body":"{}"}}"#,
                STANDARD.encode(wrapped)
            )
            .into_bytes()
        };
        let trial = Trial::new(&self.key, Padding::OaepSha1)?;
        let mut flipped = trial.wrapped.as_bytes().to_vec();
        if let Some(last) = flipped.last_mut() {
            *last ^= 1;
        }
        let pkcs1 = Trial::new(&self.key, Padding::Pkcs1V15)?;
        let id = self.keypair_id.to_string();
        let cases = [
            (
                "unknown key pair",
                with_id(another, trial.wrapped.as_bytes()),
            ),
            ("a bit of the DEK flipped", self.body(&flipped)),
            (
                "another padding than said",
                self.body(pkcs1.wrapped.as_bytes()),
            ),
            ("zeros for a DEK", self.body(&vec![0; modulus_len])),
            ("a DEK too short", self.body(&[7; 16])),
            (
                "a DEK that is no base64",
                format!(r#"{{"keypairId":"{id}","body":"?"}}"#).into_bytes(),
            ),
            (
                "a keypairId that is no UUID",
                with_id("x", trial.wrapped.as_bytes()),
            ),
            ("no JSON", b"{".to_vec()),
        ];
        let mut answers: Vec<(&str, Option<Shape>)> = Vec::new();
        for (case, body) in cases {
            let reply = self.send(&self.ask(body)).await?;
            found.push(status(case, "400", &reply));
            answers.push((case, reply.ok().map(Shape::of)));
        }
        let first = answers.first().map(|(_, shape)| shape);
        let differ: Vec<&str> = answers
            .iter()
            .filter(|(_, shape)| shape.is_none() || Some(shape) != first)
            .map(|(case, _)| *case)
            .collect();
        found.push(Finding {
            case: "these eight answers",
            expected: "equal, byte for byte",
            found: match differ.is_empty() {
                true => "equal".to_owned(),
                false => format!("different: {}", differ.join(", ")),
            },
            ok: differ.is_empty(),
        });
        let other = Ask {
            query: "?decryptType=other",
            ..self.ask(self.body(trial.wrapped.as_bytes()))
        };
        found.push(status(
            "an unknown decryptType",
            "400",
            &self.send(&other).await?,
        ));
        Ok(())
    }

    async fn surroundings(&self, found: &mut Vec<Finding>) -> anyhow::Result<()> {
        let long = self.send(&self.ask(vec![b' '; 256 * 1024])).await?;
        let (text, refused) = match &long {
            Ok(reply) => (
                reply.status.as_u16().to_string(),
                !reply.status.is_success(),
            ),
            Err(error) => (error.to_string(), true),
        };
        found.push(Finding {
            case: "a body of 256 KiB",
            expected: "refused",
            found: text,
            ok: refused,
        });
        let auth = Call {
            method: Method::POST,
            resource: "/key-management/v1/auth".to_owned(),
            authorization: None,
            content_type: Some(JSON),
            more: Vec::new(),
            body: br#"{"id":"kekctl-lkm-check"}"#.to_vec(),
        };
        let reply = self.say(auth).await?;
        let open = reply.as_ref().is_ok_and(|reply| reply.status.is_success());
        found.push(Finding {
            case: "credentials for strangers",
            expected: "refused",
            found: shown(&reply),
            ok: !open,
        });
        Ok(())
    }

    fn body(&self, wrapped: &[u8]) -> Vec<u8> {
        let (id, wrapped) = (self.keypair_id, STANDARD.encode(wrapped));
        format!(r#"{{"keypairId":"{id}","body":"{wrapped}"}}"#).into_bytes()
    }

    /// A good request with this body.
    fn ask(&self, body: Vec<u8>) -> Ask<'_> {
        Ask {
            method: Method::POST,
            query: "",
            ts: now_s(),
            port: self.caller.target.port,
            secret: &self.secret,
            hash_of: None,
            content_type: JSON,
            body,
        }
    }

    fn call(&self, ask: &Ask<'_>) -> Result<Call, CallError> {
        let target = &self.caller.target;
        let resource = format!("{}{}", target.path, ask.query);
        let header = Header {
            hash: ask.hash_of.map(|body| payload_hash(ask.content_type, body)),
            ..unsigned(&self.id, ask.ts)?
        };
        let artifacts = Artifacts {
            method: ask.method.as_str(),
            resource: &resource,
            host: &target.host,
            port: ask.port,
        };
        Ok(Call {
            authorization: Some(signed(ask.secret, header, &artifacts).to_string()),
            method: ask.method.clone(),
            resource,
            content_type: Some(ask.content_type),
            more: vec![("purecloud-user-id", "kekctl-lkm-check".to_owned())],
            body: ask.body.clone(),
        })
    }

    async fn send(&self, ask: &Ask<'_>) -> anyhow::Result<Answered> {
        self.say(self.call(ask)?).await
    }

    /// One request on a connection of its own. That there is no connection ends the check; that there
    /// is no answer is an answer.
    async fn say(&self, call: Call) -> anyhow::Result<Answered> {
        Ok(self.caller.connect().await?.send(call).await)
    }
}

/// What a client sees of an answer, but for the time of day.
#[derive(PartialEq, Eq)]
struct Shape {
    status: StatusCode,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Shape {
    fn of(reply: Reply) -> Self {
        let named = reply
            .headers
            .iter()
            .filter(|(name, _)| name.as_str() != "date");
        Self {
            status: reply.status,
            headers: named
                .map(|(name, v)| (name.to_string(), v.as_bytes().to_vec()))
                .collect(),
            body: reply.body.to_vec(),
        }
    }
}

fn status(case: &'static str, expected: &'static str, reply: &Answered) -> Finding {
    Finding {
        case,
        expected,
        found: shown(reply),
        ok: reply
            .as_ref()
            .is_ok_and(|reply| reply.status.as_str() == expected),
    }
}

fn shown(reply: &Answered) -> String {
    match reply {
        Ok(reply) => reply.status.as_u16().to_string(),
        Err(error) => error.to_string(),
    }
}

fn released(case: &'static str, trial: &Trial, reply: &Answered) -> Finding {
    #[derive(serde::Deserialize)]
    struct Released {
        body: String,
    }
    let dek = reply
        .as_ref()
        .ok()
        .filter(|reply| reply.status == StatusCode::OK)
        .and_then(|reply| {
            let released: Released = serde_json::from_slice(&reply.body).ok()?;
            STANDARD.decode(released.body).ok()
        });
    let ok = dek.as_ref().is_some_and(|dek| *dek == *trial.dek);
    Finding {
        case,
        expected: "200 and the DEK",
        found: match (ok, dek.is_some()) {
            (true, _) => "200 and the DEK".to_owned(),
            (false, true) => "200 and another value".to_owned(),
            (false, false) => format!("{}, no DEK", shown(reply)),
        },
        ok,
    }
}

fn now_s() -> u64 {
    Clock::System.now().0 / 1000
}

//! `kekctl coverage`: which version is proven on which token, and an exit status that says whether
//! every required token holds every version.

use std::fmt;

use clap::Args;
use comfy_table::{Table, presets};
use kekd::client::version_state_name;
use kekd::clock::UnixMs;
use kekd::proto::v1;
use kekd::proto::v1::CoverState;
use kekd::types::KekName;
use serde::Serialize;

use crate::connection::Connection;
use crate::exit::Exit;
use crate::output::{self, Format, Stream};

/// Show which version is proven on which token; exit status 79 when a required token lacks one
///
/// Proven means: the key's attributes are those of its profile, what the profile forbids was tried
/// and refused, and the token unwrapped a value that was wrapped outside under the key that the
/// ledger names: in this process of kekd, and on a replica through the worker that serves now. What
/// is not proven yet is before its first use, and by and by.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl coverage
  kekctl coverage --kek recordings
  until kekctl coverage --kek recordings >/dev/null; do sleep 5; done   # while somebody clones
  kekctl coverage --output json | jq -r '.versions[] | select(.tokens.b.state != \"proven\").keypair_id'")]
pub struct Coverage {
    /// Only this KEK
    #[arg(long, value_name = "NAME")]
    kek: Option<KekName>,
}

impl Coverage {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let answer = kekd.open().await?.coverage(self.kek.as_ref()).await?;
        let shown = Shown::from(answer);
        output::show(format, Stream::Out, &shown)?;
        Ok(match shown.covered {
            true => Exit::Done,
            false => Exit::Uncovered,
        })
    }
}

/// The fields of `GetCoverageResponse`, enums as words, times in RFC 3339.
#[derive(Debug, Serialize)]
struct Shown {
    covered: bool,
    tokens: Vec<Token>,
    versions: Vec<Version>,
}

#[derive(Debug, Serialize)]
struct Token {
    name: String,
    required: bool,
    state: String,
}

#[derive(Debug, Serialize)]
struct Version {
    kek: String,
    number: u32,
    keypair_id: String,
    state: &'static str,
    /// By the token's name.
    tokens: serde_json::Map<String, serde_json::Value>,
    #[serde(skip)]
    covers: Vec<Cover>,
}

#[derive(Debug, Clone, Serialize)]
struct Cover {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    proven_at: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    why: String,
}

/// What a token is known to hold of a version, in words.
pub const fn cover_state_name(state: CoverState) -> &'static str {
    match state {
        CoverState::Proven => "proven",
        CoverState::Missing => "missing",
        CoverState::Wrong => "wrong",
        CoverState::Lost => "token lost",
        CoverState::Unknown | CoverState::Unspecified => "not proven yet",
    }
}

impl From<v1::Cover> for Cover {
    fn from(cover: v1::Cover) -> Self {
        let at = Some(cover.proven_at_ms).filter(|at| *at != 0);
        Self {
            state: cover_state_name(cover.state()),
            proven_at: at.map(|at| UnixMs(at).rfc3339()),
            why: cover.why,
        }
    }
}

impl From<v1::GetCoverageResponse> for Shown {
    fn from(answer: v1::GetCoverageResponse) -> Self {
        let tokens: Vec<Token> = answer
            .tokens
            .into_iter()
            .map(|token| Token {
                name: token.name,
                required: token.required,
                state: token.state,
            })
            .collect();
        let version = |version: v1::CoveredVersion| {
            let state = version_state_name(version.state);
            let covers: Vec<Cover> = version.covers.into_iter().map(Cover::from).collect();
            let by_name = tokens.iter().zip(&covers).map(|(token, cover)| {
                let cover = serde_json::to_value(cover).unwrap_or_default();
                (token.name.clone(), cover)
            });
            Version {
                kek: version.kek,
                number: version.number,
                keypair_id: version.keypair_id,
                state,
                tokens: by_name.collect(),
                covers,
            }
        };
        let versions = answer.versions.into_iter().map(version).collect();
        Self {
            covered: answer.covered,
            versions,
            tokens,
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let head = ["KEK", "VERSION", "STATE"].map(str::to_owned).into_iter();
        let tokens = self.tokens.iter().map(|token| match token.required {
            true => token.name.clone(),
            false => format!("{} (not required)", token.name),
        });
        table.set_header(head.chain(tokens));
        for version in &self.versions {
            let first = [
                version.kek.clone(),
                version.number.to_string(),
                version.state.to_owned(),
            ];
            let covers = version.covers.iter().map(|cover| match &cover.proven_at {
                Some(at) => format!("{} {at}", cover.state),
                None => cover.state.to_owned(),
            });
            table.add_row(first.into_iter().chain(covers));
        }
        for line in table.lines() {
            writeln!(f, "{}", line.trim())?;
        }
        for version in &self.versions {
            for (token, cover) in self.tokens.iter().zip(&version.covers) {
                if !cover.why.is_empty() {
                    let Version { kek, number, .. } = version;
                    writeln!(f, "{kek}/{number} on {}: {}", token.name, cover.why)?;
                }
            }
        }
        f.write_str(match self.covered {
            true => "covered: every required token holds every version",
            false => "NOT COVERED: a required token does not hold every version",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> v1::GetCoverageResponse {
        let token = |name: &str, required, state: &str| v1::CoveringToken {
            name: name.to_owned(),
            required,
            state: state.to_owned(),
        };
        let cover = |state: CoverState, at, why: &str| v1::Cover {
            state: state.into(),
            proven_at_ms: at,
            why: why.to_owned(),
        };
        v1::GetCoverageResponse {
            tokens: vec![token("primary", true, "ready"), token("b", false, "ready")],
            versions: vec![v1::CoveredVersion {
                kek: "recordings".to_owned(),
                number: 2,
                keypair_id: "6f9619ff-8b86-4011-b42d-00cf4fc964ff".to_owned(),
                state: v1::VersionState::Active.into(),
                covers: vec![
                    cover(CoverState::Proven, 1_795_284_000_000, ""),
                    cover(CoverState::Missing, 0, "there is no such key"),
                ],
            }],
            covered: true,
        }
    }

    #[test]
    fn a_version_is_a_line_and_a_reason_another() {
        let expected = "\
KEK         VERSION  STATE   primary                      b (not required)
recordings  2        active  proven 2026-11-21T18:00:00Z  missing
recordings/2 on b: there is no such key
covered: every required token holds every version";
        assert_eq!(Shown::from(answer()).to_string(), expected);
    }

    #[test]
    fn the_json_shape_is_stable() {
        let expected = concat!(
            r#"{"covered":true,"tokens":[{"name":"primary","required":true,"state":"ready"},"#,
            r#"{"name":"b","required":false,"state":"ready"}],"versions":[{"kek":"recordings","#,
            r#""number":2,"keypair_id":"6f9619ff-8b86-4011-b42d-00cf4fc964ff","state":"active","#,
            r#""tokens":{"b":{"state":"missing","why":"there is no such key"},"primary":"#,
            r#"{"proven_at":"2026-11-21T18:00:00Z","state":"proven"}}}]}"#
        );
        let found = serde_json::to_string(&Shown::from(answer()));
        assert_eq!(found.ok().as_deref(), Some(expected));
    }
}

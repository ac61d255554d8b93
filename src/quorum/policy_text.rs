//! The policy in its text form, as a statement that changes it has it: a fact a line, every kind of
//! operation in one order. Whether it is a good policy is `policy`'s concern.

use std::time::Duration;

use super::lines::{Reader, Value};
use super::operation::OperationKind;
use super::policy::{LIFETIME_MAX, OPEN_MAX, Policy, Rule, THRESHOLDS};
use super::statement::StatementError;

const PROPOSER_MAY_APPROVE: &str = "proposer-may-approve";
const OPEN_MAX_PER_OFFICER: &str = "open-max-per-officer";
const RULE: &str = "rule";
/// The form of a rule's value.
const RULE_FORM: &str = "<operation> threshold <n> time-lock <n>s lifetime <n>s allowed yes|no";

impl Policy {
    /// Its lines: names and values.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let open_max = self.open_max_per_officer.to_string();
        let mut lines = vec![
            (
                PROPOSER_MAY_APPROVE,
                yes_or_no(self.proposer_may_approve).to_owned(),
            ),
            (OPEN_MAX_PER_OFFICER, open_max),
        ];
        let rule = |kind| (RULE, rule_text(kind, self.rule(kind)));
        lines.extend(OperationKind::ALL.map(rule));
        lines
    }

    /// Its lines as one text, each with LF at its end.
    pub fn text(&self) -> String {
        let line = |(name, value)| format!("{name} {value}\n");
        self.lines().into_iter().map(line).collect()
    }

    /// Reads what [`Policy::text`] writes. Each rule is held against its own bounds; whether
    /// officers can live under the policy is for [`Policy::check`] to say.
    pub fn parse(text: &str) -> Result<Self, StatementError> {
        let mut reader = Reader::untitled(text.as_bytes())?;
        let policy = Self::read(&mut reader)?;
        reader.end()?;
        Ok(policy)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, StatementError> {
        let proposer_may_approve = yes(reader.value(PROPOSER_MAY_APPROVE)?)?;
        let open_max_per_officer = reader.value(OPEN_MAX_PER_OFFICER)?.number(OPEN_MAX)?;
        let mut rules = Vec::new();
        for kind in OperationKind::ALL {
            rules.push((kind, rule(reader.value(RULE)?, kind)?));
        }
        Ok(Self {
            rules: rules.into_iter().collect(),
            proposer_may_approve,
            open_max_per_officer,
        })
    }
}

fn rule_text(kind: OperationKind, rule: Rule) -> String {
    format!(
        "{kind} threshold {} time-lock {}s lifetime {}s allowed {}",
        rule.threshold,
        rule.time_lock.as_secs(),
        rule.lifetime.as_secs(),
        yes_or_no(rule.allowed)
    )
}

fn rule(value: Value<'_>, kind: OperationKind) -> Result<Rule, StatementError> {
    let form = || {
        let form = RULE_FORM.replace("<operation>", kind.name());
        value.refused(format_args!("the form {form:?}"))
    };
    let words: Vec<&str> = value.text.split(' ').collect();
    let [
        operation,
        "threshold",
        threshold,
        "time-lock",
        time_lock,
        "lifetime",
        lifetime,
        "allowed",
        allowed,
    ] = *words
    else {
        return Err(form());
    };
    if operation != kind.name() {
        return Err(form());
    }
    let word = |text| Value { text, ..value };
    let longest = 0..=LIFETIME_MAX.as_secs();
    let rule = Rule {
        threshold: word(threshold).number(THRESHOLDS)?,
        time_lock: Duration::from_secs(word(time_lock).seconds(longest.clone())?),
        lifetime: Duration::from_secs(word(lifetime).seconds(longest)?),
        allowed: yes(word(allowed))?,
    };
    let checked = rule.check(kind);
    checked.map_err(|source| StatementError::PolicyRefused {
        line: value.line,
        source,
    })?;
    Ok(rule)
}

fn yes(value: Value<'_>) -> Result<bool, StatementError> {
    match value.text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(value.refused("yes or no")),
    }
}

const fn yes_or_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

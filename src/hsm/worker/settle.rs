//! What is tried again, and who is to blame. A token says the same of a bad ciphertext and of its
//! own trouble, so an ambiguous answer is settled by a known-answer test on a fresh session. No
//! operation on keys is spelled out here. Two invariants: nothing is attempted more than three
//! times, and a client's ciphertext alone never makes the daemon think that the token is lost.

use super::error::JobError;
use super::known_answer;
use super::return_value::{self, Class};
use super::seat::Seat;
use crate::proto::worker::KeyRef;

/// Attempts once, and once more where the session was lost. For what may be repeated: reading,
/// searching, signing.
pub(super) fn retry_lost<T>(
    seat: &mut Seat,
    attempt: impl Fn(&mut Seat) -> Result<T, JobError>,
) -> Result<T, JobError> {
    match attempt(seat) {
        Err(error) if error.class() == Some(Class::SessionLost) => {
            seat.renew()?;
            attempt(seat)
        }
        outcome => outcome,
    }
}

/// Attempts what was given a caller's ciphertext or public key, and settles whose fault a failure
/// is.
///
/// Every way in which a ciphertext can be bad takes the same steps: attempt, test, attempt. If only
/// the ambiguous answers were settled, then the time would tell a bad padding from a good one
/// around a value of another length, and on some tokens one bad padding from another. The test is
/// that of the key in question.
pub(super) fn settle<T>(
    seat: &mut Seat,
    key: Option<&KeyRef>,
    padding: i32,
    attempt: impl Fn(&mut Seat) -> Result<T, JobError>,
) -> Result<T, JobError> {
    let error = match retry_lost(seat, &attempt) {
        Err(error) if may_be_the_requests_fault(&error) => error,
        outcome => return outcome,
    };
    // The error may have left an operation active.
    seat.retire_session();
    match known_answer::check(seat, key, padding) {
        Ok(()) => {}
        Err(of_key @ (JobError::KeyUnwell { .. } | JobError::Untested)) => return Err(of_key),
        Err(lost) => {
            return Err(JobError::LinkLost {
                why: format!("{error}, and the known-answer test says: {lost}"),
                return_value: error.return_value(),
            });
        }
    }
    match attempt(seat) {
        Err(again) if again.class() == Some(Class::Ambiguous) => Err(blame(again)),
        outcome => outcome,
    }
}

fn may_be_the_requests_fault(error: &JobError) -> bool {
    matches!(error, JobError::BadCiphertext { .. })
        || matches!(error.class(), Some(Class::Ambiguous | Class::BadCiphertext))
}

/// The token does its work, but not for this request: the fault is in what the call was given.
fn blame(error: JobError) -> JobError {
    let JobError::Token { call, return_value } = error else {
        return error;
    };
    if return_value::saw_ciphertext(call) {
        return JobError::BadCiphertext {
            return_value: Some(return_value),
        };
    }
    if return_value::saw_parameters(call) {
        return JobError::Unsupported {
            what: format!("the token does its work, but {error} to these parameters"),
            return_value: Some(return_value),
        };
    }
    error
}

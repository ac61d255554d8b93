//! From a request to the file that answers it. Nothing is decided here.

use super::error::JobError;
use super::seat::Seat;
use super::{
    attack, cage, data_object, destroy, generate, implicit_rejection, import, inventory,
    known_answer, probe, read_back, rewrap, sign, unwrap,
};
use crate::proto::worker::{request::Op, response::Result as Answer};

/// Does what a request asks for.
pub(super) fn run(seat: &mut Seat, op: Op) -> Result<Answer, JobError> {
    Ok(match op {
        Op::Unwrap(request) => Answer::Unwrapped(unwrap::unwrap(seat, &request)?),
        Op::Rewrap(request) => Answer::Rewrapped(rewrap::rewrap(seat, &request)?),
        Op::KnownAnswer(test) => Answer::KnownAnswered(known_answer::set(seat, test)?),
        Op::SecretProof(request) => {
            Answer::SecretProved(implicit_rejection::secret_proof(seat, &request)?)
        }
        Op::SignDigest(request) => Answer::Signature(sign::digest(seat, &request)?),
        Op::SelfSign(request) => Answer::Signature(sign::certificate(seat, &request)?),
        Op::Generate(request) => Answer::Generated(generate::generate(seat, &request)?),
        Op::MakeTransport(request) => Answer::Generated(import::transport(seat, &request)?),
        Op::Import(request) => Answer::Imported(import::import(seat, &request)?),
        Op::Destroy(request) => Answer::Destroyed(destroy::destroy(seat, &request)?),
        Op::Cage(request) => Answer::Caged(cage::cage(seat, &request)?),
        Op::ReadBack(request) => Answer::ReadBackReport(read_back::read_back(seat, &request)?),
        Op::Attack(request) => Answer::AttackReport(attack::attack(seat, &request)?),
        Op::Inventory(_) => Answer::Objects(inventory::inventory(seat)?),
        Op::ReadData(request) => Answer::DataObjects(data_object::read(seat, &request)?),
        Op::WriteData(request) => Answer::DataWritten(data_object::write(seat, &request)?),
        Op::Probe(_) => Answer::Probed(probe::probe(seat)?),
        // The reading thread answers these two itself.
        Op::Open(_) | Op::Ping(_) => return Err(JobError::bad_request("not a job")),
    })
}

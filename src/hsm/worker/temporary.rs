//! Objects that live as long as a borrow. A session object that is only forgotten stays in the
//! module's memory, even after its session is closed.

use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

/// An object that is destroyed when this is dropped, whatever happened in between.
pub(super) struct Temporary<'session> {
    session: &'session Session,
    handle: ObjectHandle,
}

impl<'session> Temporary<'session> {
    pub(super) const fn new(session: &'session Session, handle: ObjectHandle) -> Self {
        Self { session, handle }
    }

    pub(super) const fn handle(&self) -> ObjectHandle {
        self.handle
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // A failure shows in the next call on this session; there is nobody to tell it here.
        drop(self.session.destroy_object(self.handle));
    }
}

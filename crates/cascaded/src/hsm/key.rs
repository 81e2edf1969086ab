//! A key in an HSM as the signer sees it.

use std::sync::Arc;

use cascade_crypto::{
    Algorithm, Batch, Class, Completion, Dnskey, Input, Mode, QueuedSigner, SignFailure,
    SigningKey, Ticket,
};
use cascade_time::Timestamp;
use cascade_zone::KeyId;

use super::device::{Device, Held};
use super::gather::How;

/// A key whose signatures come from an HSM, each of them verified before it is handed on.
pub struct HsmKey {
    id: KeyId,
    dnskey: Dnskey,
    algorithm: Algorithm,
    device: Arc<Device>,
    held: Arc<Held>,
}

impl HsmKey {
    pub fn held(&self) -> &Arc<Held> {
        &self.held
    }

    pub fn new(
        id: KeyId,
        dnskey: Dnskey,
        algorithm: Algorithm,
        device: Arc<Device>,
        held: Arc<Held>,
    ) -> HsmKey {
        HsmKey {
            id,
            dnskey,
            algorithm,
            device,
            held,
        }
    }
}

impl SigningKey for HsmKey {
    fn id(&self) -> KeyId {
        self.id
    }
    fn dnskey(&self) -> &Dnskey {
        &self.dnskey
    }
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
    fn sig_len(&self) -> usize {
        self.held.target.sig_len
    }
    /// Signatures can only be verified against what was signed.
    fn input(&self) -> Input {
        Input::Preimage
    }
    fn mode(&self) -> Mode<'_> {
        Mode::Queued(self)
    }
    /// Where a wrong one is counted, asked for again and may close the HSM: see `gather`.
    fn is_verified(&self) -> bool {
        true
    }
}

impl QueuedSigner for HsmKey {
    fn submit(&self, batch: Batch, class: Class, deadline: Timestamp, done: Completion) -> Ticket {
        let group = self.device.pool().new_group();
        if batch.input() != Input::Preimage {
            let failure = SignFailure::WrongInput {
                found: "digests",
                wanted: "preimages",
            };
            self.device.compute(move || done(batch, Err(failure)));
            return Ticket(group);
        }
        let how = How {
            class: match class {
                Class::Bulk => 0,
                Class::Normal => 1,
                Class::Interactive => 2,
                Class::Critical => 3,
            },
            patience: deadline.since(self.device.now()),
            group,
            instance: None,
            again: true,
            blame: true,
        };
        self.device.sign(&self.held, batch, how, done);
        Ticket(group)
    }

    fn cancel(&self, ticket: Ticket) {
        self.device.pool().cancel(ticket.0);
    }
}

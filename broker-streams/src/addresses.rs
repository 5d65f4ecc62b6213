//! Addresses: how many sockets each address has, where that is limited.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{Extensions, HeaderMap};

/// Says where a request comes from.
type AddressOf = Box<dyn Fn(&Extensions, &HeaderMap) -> Option<IpAddr> + Send + Sync>;

/// How many sockets each address has.
pub(crate) struct Addresses {
    most: usize,
    address_of: AddressOf,
    sockets: Mutex<HashMap<IpAddr, usize>>,
}

/// A socket that is counted for its address.
pub(crate) struct Counted {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    pub(crate) fn new(most: usize, address_of: AddressOf) -> Self {
        Self { most, address_of, sockets: Mutex::default() }
    }

    /// Whether no address may have a socket.
    pub(crate) fn is_none(&self) -> bool {
        self.most == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more socket. One without an address is not counted; an error for an address that has too many.
    pub(crate) fn count<B>(self: &Arc<Self>, request: &http::Request<B>) -> Result<Option<Counted>, TooMany> {
        // Outside of the lock: it is a function of the user's.
        let Some(address) = (self.address_of)(request.extensions(), request.headers()) else {
            return Ok(None);
        };
        let mut sockets = self.lock();
        let count = sockets.entry(address).or_default();
        if *count >= self.most {
            return Err(TooMany);
        }
        *count += 1;
        drop(sockets);
        Ok(Some(Counted { addresses: Arc::clone(self), address }))
    }
}

/// The address has as many sockets as it may have.
#[derive(Debug)]
pub(crate) struct TooMany;

impl Drop for Counted {
    fn drop(&mut self) {
        let mut sockets = self.addresses.lock();
        if let Some(count) = sockets.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                sockets.remove(&self.address);
            }
        }
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Addresses").field("most", &self.most).finish_non_exhaustive()
    }
}

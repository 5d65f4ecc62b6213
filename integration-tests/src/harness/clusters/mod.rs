//! Clusters: our entries of the suite on brokers of several members, a file below this one for each topology. Node *i*
//! of a case is on member *i*. They start slowly, so that they run only where they are named.

use broker_conformance::Entry;

/// Every topology of the suite.
pub const CLUSTERS: &[Entry] = &[];

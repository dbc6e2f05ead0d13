//! Hash maps by ids.

use std::collections::HashMap;

/// A map whose keys this server chooses, or which are random: ids, digests. The standard library's hash withstands whoever chooses keys that
/// collide; where nobody can, a simpler one takes a tenth of the time.
pub type IdMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

//! Models that were asked for lately, by the name clients use. A name as `provider/model` is looked up in the
//! catalogue; once is enough for one configuration.

use crate::live::Live;
use policy::gateway::compile::NoModel;
use policy::gateway::snapshot::Model;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// Names kept; beyond, all are forgotten. Clients choose names of providers that list no models.
const NAMES_MAX: usize = 1024;
/// Longer names are not kept.
const NAME_BYTES_MAX: usize = 256;

/// The models of one thread.
#[derive(Debug, Default)]
pub(super) struct Models(RefCell<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The configuration they are of. While this is held no other one can be at its address.
    live: Weak<Live>,
    models: HashMap<Box<str>, Arc<Model>>,
}

impl Models {
    /// The model of this name.
    ///
    /// # Errors
    /// As of [`policy::gateway::snapshot::Snapshot::model`].
    pub(super) fn find(&self, live: &Arc<Live>, name: &str) -> Result<Arc<Model>, NoModel> {
        let mut known = self.0.borrow_mut();
        if known.live.as_ptr() != Arc::as_ptr(live) {
            known.models.clear();
            known.live = Arc::downgrade(live);
        }
        if let Some(model) = known.models.get(name) {
            return Ok(Arc::clone(model));
        }
        let model = live.snapshot.model(name, &live.catalogue)?;
        if name.len() <= NAME_BYTES_MAX {
            if known.models.len() >= NAMES_MAX {
                known.models.clear();
            }
            known.models.insert(name.into(), Arc::clone(&model));
        }
        Ok(model)
    }
}

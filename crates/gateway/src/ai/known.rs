//! Models that were asked for lately, by the name clients use, with what their calls have in common. A name as
//! `provider/model` is looked up in the catalogue, an address and a credential are put together and checked: once is
//! enough for one configuration.

use crate::live::Live;
use hyper::Uri;
use hyper::http::header::{HeaderMap, HeaderValue};
use llm::format::Format;
use llm::presets::Operation;
use policy::gateway::compile::NoModel;
use policy::gateway::snapshot::{Model, ProviderKey, Target};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
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
    models: HashMap<Box<str>, Rc<Named>>,
}

/// Beginnings of requests kept for one model.
const HEADS_MAX: usize = 64;

/// A model as a client names it.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) model: Arc<Model>,
    /// As the client wrote it.
    pub(super) name: Arc<str>,
    heads: RefCell<Vec<(HeadOf, Rc<Head>)>>,
}

/// What a beginning of a request depends on, within one model. Places in lists, so that nothing can be mistaken for
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeadOf {
    target: usize,
    key: Option<usize>,
    operation: Operation,
    wire: Format,
    is_stream: bool,
}

/// The beginning of a request to a provider.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    /// Who answers, for the client: `provider/model`.
    pub(super) shown: Option<HeaderValue>,
}

impl Named {
    /// Of a call of one of its targets; `None` if that is not this model's.
    pub(super) fn head_of(
        &self,
        target: &Target,
        key: Option<&ProviderKey>,
        operation: Operation,
        wire: Format,
        is_stream: bool,
    ) -> Option<HeadOf> {
        let mut keys = target.provider.keys.iter();
        let key = match key {
            Some(key) => Some(keys.position(|one| std::ptr::eq(one, key))?),
            None => None,
        };
        let mut targets = self.model.targets.iter();
        Some(HeadOf {
            target: targets.position(|one| std::ptr::eq(one, target))?,
            key,
            operation,
            wire,
            is_stream,
        })
    }

    /// The beginning that was kept, else one that is made, and kept.
    ///
    /// # Errors
    /// As of `make`.
    pub(super) fn head<E>(&self, of: HeadOf, make: impl FnOnce() -> Result<Head, E>) -> Result<Rc<Head>, E> {
        let known = self
            .heads
            .borrow()
            .iter()
            .find_map(|(other, head)| (*other == of).then(|| Rc::clone(head)));
        if let Some(head) = known {
            return Ok(head);
        }
        let head = Rc::new(make()?);
        let mut heads = self.heads.borrow_mut();
        if heads.len() < HEADS_MAX {
            heads.push((of, Rc::clone(&head)));
        }
        Ok(head)
    }
}

impl Models {
    /// The model of this name.
    ///
    /// # Errors
    /// As of [`policy::gateway::snapshot::Snapshot::model`].
    pub(super) fn find(&self, live: &Arc<Live>, name: &str) -> Result<Rc<Named>, NoModel> {
        let mut known = self.0.borrow_mut();
        if known.live.as_ptr() != Arc::as_ptr(live) {
            known.models.clear();
            known.live = Arc::downgrade(live);
        }
        if let Some(model) = known.models.get(name) {
            return Ok(Rc::clone(model));
        }
        let model = Rc::new(Named {
            model: live.snapshot.model(name, &live.catalogue)?,
            name: name.into(),
            heads: RefCell::default(),
        });
        if name.len() <= NAME_BYTES_MAX {
            if known.models.len() >= NAMES_MAX {
                known.models.clear();
            }
            known.models.insert(name.into(), Rc::clone(&model));
        }
        Ok(model)
    }
}

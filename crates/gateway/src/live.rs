//! What all threads of the gateway share: the configuration in force, and what is known while it is used.

use crate::ai::cache::Cache;
use crate::ai::pool::ProviderState;
use crate::ai::trouble::RetryBudget;
use crate::limits::Limits;
use crate::rest::table::Services;
use crate::upstream::trust::Trust;
use crate::upstream::{EgressRule, Origin, Protocol};
use arc_swap::ArcSwap;
use llm::catalogue::Catalogue;
use policy::gateway::snapshot::{Provider, Snapshot};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use store::calls::CallSink;
use store::identity::Identities;
use store::ledger::Budgets;
use store::seal::KeyHasher;

/// The configuration in force.
#[derive(Debug)]
pub struct Live {
    /// What was compiled.
    pub snapshot: Arc<Snapshot>,
    /// Models, prices and features.
    pub catalogue: Arc<Catalogue>,
    /// What is known of each provider, by name; kept over changes of all but its address.
    pub providers: HashMap<Arc<str>, Arc<ProviderState>>,
    /// REST services.
    pub services: Arc<Services>,
    /// Where each provider is, by name.
    origins: HashMap<Arc<str>, Arc<Origin>>,
}

/// What all threads share.
pub struct Shared {
    live: ArcSwap<Live>,
    /// The public roots.
    pub trust: Trust,
    /// Keys of clients.
    pub identities: Arc<Identities>,
    /// Hashes them.
    pub hasher: KeyHasher,
    /// Money; `None` where no budget can be kept for want of a ledger.
    pub budgets: Option<Arc<Budgets>>,
    /// Records of calls.
    pub calls: Arc<dyn CallSink>,
    /// Counts of limits.
    pub limits: Limits,
    /// Exact answers.
    pub cache: Cache,
    /// Retries that are left.
    pub retries: RetryBudget,
    /// Wrong keys, by source.
    pub failures: crate::auth::Failures,
    /// Keys that tokens are checked with.
    pub key_sets: crate::jwt::KeySets,
    /// By outcome, in the order of [`store::outcome::Outcome::ALL`].
    pub outcomes: [AtomicU64; store::outcome::Outcome::ALL.len()],
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("generation", &self.live.load().snapshot.generation)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// With a first configuration.
    pub fn new(
        snapshot: Arc<Snapshot>,
        catalogue: Arc<Catalogue>,
        identities: Arc<Identities>,
        hasher: KeyHasher,
        budgets: Option<Arc<Budgets>>,
        calls: Arc<dyn CallSink>,
        trust: Trust,
    ) -> Self {
        if let Some(budgets) = &budgets {
            crate::money::set_accounts(budgets, &snapshot);
        }
        let live = Live::new(snapshot, catalogue, None, &trust);
        Self {
            live: ArcSwap::from_pointee(live),
            trust,
            identities,
            hasher,
            budgets,
            calls,
            limits: Limits::default(),
            cache: Cache::default(),
            retries: RetryBudget::default(),
            failures: crate::auth::Failures::default(),
            key_sets: crate::jwt::KeySets::default(),
            outcomes: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// The configuration in force. A request takes it once and keeps to it.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Puts a configuration in force: requests that begin from now on keep to it.
    pub fn publish(&self, snapshot: Arc<Snapshot>, catalogue: Arc<Catalogue>) {
        let before = self.live.load_full();
        if let Some(budgets) = &self.budgets {
            crate::money::set_accounts(budgets, &snapshot);
        }
        self.live.store(Arc::new(Live::new(
            snapshot,
            catalogue,
            Some(&before),
            &self.trust,
        )));
    }

    /// Counts how a request ended.
    pub fn count(&self, outcome: store::outcome::Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Relaxed);
    }
}

impl Live {
    fn new(snapshot: Arc<Snapshot>, catalogue: Arc<Catalogue>, before: Option<&Live>, trust: &Trust) -> Self {
        let states = snapshot.providers.iter().map(|(name, provider)| {
            let known = before.filter(|before| {
                let before = before.snapshot.providers.get(name);
                before.is_some_and(|before| before.origin == provider.origin)
            });
            let state = known.and_then(|before| before.providers.get(name));
            let state = state.cloned().unwrap_or_default();
            state.set_keys(&provider.keys);
            (Arc::clone(name), state)
        });
        let providers = states.collect();
        let origins = snapshot.providers.values().filter_map(|provider| {
            let origin = origin(provider, trust);
            let told = origin.map_err(|words| tracing::error!(provider = %provider.name, reason = %words, "a provider has no address"));
            Some((Arc::clone(&provider.name), Arc::new(told.ok()?)))
        });
        let origins = origins.collect();
        let services = Services::new(&snapshot, before.map(|before| &*before.services), trust);
        Self {
            services: Arc::new(services),
            snapshot,
            catalogue,
            providers,
            origins,
        }
    }

    /// Where a provider is.
    pub fn origin(&self, provider: &str) -> Option<Arc<Origin>> {
        self.origins.get(provider).cloned()
    }
}

fn origin(provider: &Provider, trust: &Trust) -> Result<Origin, String> {
    let egress = EgressRule {
        allow_literal: provider.is_literal,
    };
    let trust = match &provider.ca {
        Some(pem) => Trust::new(Some(pem.as_bytes())).map_err(|error| error.to_string())?,
        None => trust.clone(),
    };
    Origin::new(&provider.origin, Protocol::Auto, egress, trust).map_err(|error| error.to_string())
}

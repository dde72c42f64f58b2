//! Health checks: one task a route, on one thread, as long as its configuration is in force.

use std::sync::Weak;
use std::time::Duration;

use hyper::Request;

use super::table::Services;
use crate::body::Body;
use crate::clock;
use crate::upstream::{Client, Timeouts};

/// Bytes of an answer that are read, so that its connection can be kept.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Checks the routes of `services` until these are no longer in force.
pub(super) fn watch(services: &std::sync::Arc<Services>, client: &Client) {
    for i in 0..services.checked.len() {
        let (services, client) = (std::sync::Arc::downgrade(services), client.clone());
        tokio::task::spawn_local(check_route(services, i, client));
    }
}

async fn check_route(services: Weak<Services>, i: usize, client: Client) {
    loop {
        let Some(target) = services
            .upgrade()
            .and_then(|services| services.checked.get(i).cloned())
        else {
            return;
        };
        let Some(health) = &target.route.health else {
            return;
        };
        let timeout = Duration::from_millis(health.timeout_ms);
        let timeouts = Timeouts {
            connect: timeout,
            first_byte: timeout,
            idle: timeout,
        };
        for member in &target.group.members {
            let mut request = Request::new(Body::Empty);
            let Ok(path) = format!("{}{}", member.base_path, health.path).parse() else {
                return;
            };
            *request.uri_mut() = path;
            let answer = async {
                let reply = client.call(&member.origin, request, &timeouts).await.ok()?;
                let status = reply.response.status();
                let _ = reply.response.into_body().collect(ANSWER_BYTES_MAX).await;
                Some(status)
            };
            let status = clock::Alarm::after(timeout).bound(answer).await.flatten();
            let is_well = status.is_some_and(|status| status.is_success() || status.is_redirection());
            member.vitals.checked(is_well, health.failures, health.successes);
        }
        let interval = Duration::from_millis(health.interval_ms);
        drop(target);
        clock::sleep(interval).await;
    }
}

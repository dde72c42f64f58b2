//! Records of calls, and what they cost.

use control::gateway::{CallQuery, CostQuery, GatewayError};
use llm::money::Money;
use llm::usage::Usage;
use serde_json::{Value, json};
use store::calls::{self, CallFilter, CallGroup, CallReader, CallSum, PAGE_MAX, usd_text};
use store::civil::time_text;
use store::ledger::{Group, SpendQuery};
use store::outcome::Outcome;

use super::{GatewayAdmin, unavailable, wait};

/// Calls of a page, unless the query says.
const PAGE_DEFAULT: usize = 100;

impl GatewayAdmin {
    fn reader(&self) -> Result<&CallReader, GatewayError> {
        self.history.as_ref().ok_or_else(|| {
            GatewayError::Unavailable("no records of calls are kept: this run has no data folder".to_owned())
        })
    }

    pub(super) fn find_calls(&self, query: &CallQuery) -> Result<Value, GatewayError> {
        let wrong = |field: &str, words: String| GatewayError::Invalid(vec![(field.to_owned(), words)]);
        let outcome = match &query.outcome {
            None => None,
            Some(text) => Some(Outcome::parse(text).ok_or_else(|| {
                let known: Vec<&str> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
                wrong(
                    "outcome",
                    format!("expected one of {}, found `{text}`", known.join(", ")),
                )
            })?),
        };
        let cost_min_pusd = match &query.cost_min_usd {
            None => None,
            Some(text) => Some(text.parse::<Money>().map(Money::pico_usd).map_err(|_| {
                wrong(
                    "cost_min_usd",
                    format!("expected US dollars, as 0.5, found `{text}`"),
                )
            })?),
        };
        let cursor = match &query.cursor {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                wrong(
                    "cursor",
                    "expected what `next` of the page before gave".to_owned(),
                )
            })?),
        };
        let limit = query.limit.unwrap_or(PAGE_DEFAULT);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(wrong("limit", format!("expected 1 to {PAGE_MAX}, found {limit}")));
        }
        let query = calls::CallQuery {
            filter: CallFilter {
                since_ms: query.since_ms,
                until_ms: query.until_ms,
                consumer: query.consumer.clone(),
                model: query.model.clone(),
                provider: query.provider.clone(),
                outcome,
                status: query.status,
                cost_min_pusd,
                ..CallFilter::default()
            },
            limit,
            cursor,
        };
        let page =
            wait(self.reader()?.calls(query)).map_err(|error| unavailable("the records of calls", &error))?;
        Ok(json!({
            "calls": page.calls,
            "next": page.next.map(|next| next.to_string()),
            "unreadable_days": page.unreadable,
        }))
    }

    pub(super) fn sum_calls(&self, query: &CostQuery) -> Result<Value, GatewayError> {
        let by = query.by.as_deref().unwrap_or("model");
        let group = match by {
            "model" => CallGroup::Model,
            "consumer" => CallGroup::Consumer,
            "team" => CallGroup::Team,
            "provider" => CallGroup::Provider,
            "hour" => CallGroup::Hour,
            "day" => CallGroup::Day,
            _ => {
                return Err(GatewayError::Invalid(vec![(
                    "by".to_owned(),
                    format!("expected model, consumer, team, provider, hour or day, found `{by}`"),
                )]));
            }
        };
        let filter = CallFilter {
            since_ms: query.since_ms,
            until_ms: query.until_ms,
            consumer: query.consumer.clone(),
            model: query.model.clone(),
            provider: query.provider.clone(),
            ..CallFilter::default()
        };
        let sums = wait(self.reader()?.sums(filter, group))
            .map_err(|error| unavailable("the records of calls", &error))?;
        let mut total = CallSum::default();
        for row in &sums.rows {
            add(&mut total, row);
        }
        Ok(json!({
            "by": by,
            "since": query.since_ms.map(time_text),
            "until": query.until_ms.map(time_text),
            "rows": sums.rows.iter().map(row).collect::<Vec<_>>(),
            "total": row(&total),
            // What runs that ended without settling had taken in advance: spent at most, by nobody known.
            "unattributed_usd": self.unattributed(query)?,
            "is_cut": sums.is_cut,
            "missing_before": sums.missing_before,
            "unreadable_days": sums.unreadable,
        }))
    }

    fn unattributed(&self, query: &CostQuery) -> Result<Option<String>, GatewayError> {
        let is_of_all = query.consumer.is_none() && query.model.is_none() && query.provider.is_none();
        let Some(ledger) = self.ledger.as_ref().filter(|_| is_of_all) else {
            // It is in nobody's name.
            return Ok(None);
        };
        let query = SpendQuery {
            since_ms: query.since_ms,
            until_ms: query.until_ms,
            group: Group::Account,
            ..SpendQuery::default()
        };
        let spending = wait(ledger.spend(query)).map_err(|error| unavailable("the ledger", &error))?;
        let sum: i128 = spending.rows.iter().map(|row| row.unattributed_pusd).sum();
        Ok(Some(usd_text(sum)))
    }

    /// What budgets have left, in the window of now. Empty where there is no ledger or it cannot be read.
    pub(super) fn budgets_left(&self) -> Value {
        let Some(ledger) = &self.ledger else {
            return json!([]);
        };
        let balances = wait(ledger.balances(self.now_ms())).unwrap_or_else(|error| {
            tracing::error!(reason = %error, "what budgets have left cannot be read");
            Vec::new()
        });
        let rows = balances.iter().map(|balance| {
            let usd = |pusd: i64| usd_text(pusd.into());
            json!({
                "of": format!("{}/{}", balance.key.scope.as_str(), balance.key.name),
                "organisation": &*balance.key.organisation,
                "team": &*balance.key.team,
                "per": balance.key.period.as_str(),
                "hard": balance.hard,
                "limit_usd": usd(balance.limit_pusd),
                "settled_usd": usd(balance.settled_pusd),
                "leased_usd": usd(balance.leased_pusd),
                "remaining_usd": usd(balance.remaining_pusd()),
                "unattributed_usd": usd(balance.unattributed_pusd),
            })
        });
        rows.collect()
    }
}

fn row(sum: &CallSum) -> Value {
    json!({
        "of": sum.of,
        "calls": sum.calls,
        "failed": sum.failed,
        "cache_hits": sum.cache_hits,
        "cost_usd": usd_text(sum.cost_pusd),
        "estimated_usd": usd_text(sum.estimated_pusd),
        "assumed_usd": usd_text(sum.assumed_pusd),
        "tokens": tokens(&sum.usage),
        "bytes_in": sum.bytes_in,
        "bytes_out": sum.bytes_out,
    })
}

fn tokens(usage: &Usage) -> Value {
    super::numbers::buckets(usage)
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn add(total: &mut CallSum, row: &CallSum) {
    total.calls += row.calls;
    total.failed += row.failed;
    total.cache_hits += row.cache_hits;
    total.cost_pusd += row.cost_pusd;
    total.estimated_pusd += row.estimated_pusd;
    total.assumed_pusd += row.assumed_pusd;
    total.bytes_in = total.bytes_in.saturating_add(row.bytes_in);
    total.bytes_out = total.bytes_out.saturating_add(row.bytes_out);
    let usage = &mut total.usage;
    let sums = [
        (&mut usage.input, row.usage.input),
        (&mut usage.cache_read, row.usage.cache_read),
        (&mut usage.cache_write_5m, row.usage.cache_write_5m),
        (&mut usage.cache_write_1h, row.usage.cache_write_1h),
        (&mut usage.input_audio, row.usage.input_audio),
        (&mut usage.input_image, row.usage.input_image),
        (&mut usage.output, row.usage.output),
        (&mut usage.reasoning, row.usage.reasoning),
        (&mut usage.output_audio, row.usage.output_audio),
        (&mut usage.output_image, row.usage.output_image),
    ];
    for (sum, more) in sums {
        *sum = sum.saturating_add(more);
    }
}

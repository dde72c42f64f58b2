//! The prices of a model, and what a call costs by them. The rules are in the doc of [`super`].

use super::{MONEY_PLACES, Money, PRICE_PLACES, UnitPrice};
use crate::usage::Usage;

/// Kinds of tokens, each with a price of its own. The fields of [`Usage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bucket {
    /// [`Usage::input`].
    Input,
    /// [`Usage::cache_read`].
    CacheRead,
    /// [`Usage::cache_write_5m`].
    CacheWrite5m,
    /// [`Usage::cache_write_1h`].
    CacheWrite1h,
    /// [`Usage::input_audio`].
    InputAudio,
    /// [`Usage::input_image`].
    InputImage,
    /// [`Usage::output`].
    Output,
    /// [`Usage::reasoning`].
    Reasoning,
    /// [`Usage::output_audio`].
    OutputAudio,
    /// [`Usage::output_image`].
    OutputImage,
}

impl Bucket {
    /// All buckets, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Input,
        Self::CacheRead,
        Self::CacheWrite5m,
        Self::CacheWrite1h,
        Self::InputAudio,
        Self::InputImage,
        Self::Output,
        Self::Reasoning,
        Self::OutputAudio,
        Self::OutputImage,
    ];
    /// Those of the prompt.
    pub const INPUT: [Self; 6] = [
        Self::Input,
        Self::CacheRead,
        Self::CacheWrite5m,
        Self::CacheWrite1h,
        Self::InputAudio,
        Self::InputImage,
    ];
    /// Those of the answer.
    pub const OUTPUT: [Self; 4] = [
        Self::Output,
        Self::Reasoning,
        Self::OutputAudio,
        Self::OutputImage,
    ];

    /// Its name in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::CacheRead => "cache_read",
            Self::CacheWrite5m => "cache_write_5m",
            Self::CacheWrite1h => "cache_write_1h",
            Self::InputAudio => "input_audio",
            Self::InputImage => "input_image",
            Self::Output => "output",
            Self::Reasoning => "reasoning",
            Self::OutputAudio => "output_audio",
            Self::OutputImage => "output_image",
        }
    }

    /// The bucket whose price holds where this has none.
    pub const fn parent(self) -> Option<Self> {
        match self {
            Self::Input | Self::Output => None,
            Self::CacheWrite1h => Some(Self::CacheWrite5m),
            Self::CacheRead | Self::CacheWrite5m | Self::InputAudio | Self::InputImage => Some(Self::Input),
            Self::Reasoning | Self::OutputAudio | Self::OutputImage => Some(Self::Output),
        }
    }

    /// The tokens a call used of this kind.
    pub const fn tokens(self, usage: &Usage) -> u64 {
        match self {
            Self::Input => usage.input,
            Self::CacheRead => usage.cache_read,
            Self::CacheWrite5m => usage.cache_write_5m,
            Self::CacheWrite1h => usage.cache_write_1h,
            Self::InputAudio => usage.input_audio,
            Self::InputImage => usage.input_image,
            Self::Output => usage.output,
            Self::Reasoning => usage.reasoning,
            Self::OutputAudio => usage.output_audio,
            Self::OutputImage => usage.output_image,
        }
    }
}

/// Prices of one token, by bucket, as they were written: a bucket without one falls back to its parent
/// only when a cost is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates([Option<UnitPrice>; 10]);

impl Rates {
    /// The price that stands here.
    pub const fn get(&self, bucket: Bucket) -> Option<UnitPrice> {
        self.0[bucket as usize]
    }

    /// Sets or removes a price.
    pub const fn set(&mut self, bucket: Bucket, price: Option<UnitPrice>) {
        self.0[bucket as usize] = price;
    }

    /// The same with one price set.
    #[must_use]
    pub const fn with(mut self, bucket: Bucket, price: UnitPrice) -> Self {
        self.set(bucket, Some(price));
        self
    }

    /// Is no price here?
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// Prices that hold for calls whose prompt has more tokens than `above`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// The total input tokens from which, exclusive, the tier holds.
    pub above: u64,
    /// Its prices; a bucket without one keeps that of the tier below.
    pub rates: Rates,
}

/// All prices of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    rates: Rates,
    request: Option<UnitPrice>,
    /// By `above`, ascending.
    tiers: Box<[Tier]>,
}

impl Prices {
    /// Prices by bucket, by call, and by size of the prompt. Tiers may come in any order; of two with
    /// the same `above` the later one wins.
    pub fn new(rates: Rates, request: Option<UnitPrice>, tiers: impl IntoIterator<Item = Tier>) -> Self {
        let mut tiers: Vec<Tier> = tiers.into_iter().collect();
        tiers.sort_by_key(|tier| tier.above);
        let tiers = tiers.into_boxed_slice();
        Self {
            rates,
            request,
            tiers,
        }
    }

    /// The prices that hold where no tier says otherwise.
    pub const fn rates(&self) -> &Rates {
        &self.rates
    }

    /// What each call costs beside its tokens.
    pub const fn request(&self) -> Option<UnitPrice> {
        self.request
    }

    /// The tiers, by `above`, ascending.
    pub const fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// The price of a token of this kind in a call with so many input tokens in total.
    pub fn price(&self, bucket: Bucket, total_input: u64) -> Option<UnitPrice> {
        let n_reached = self.tiers.partition_point(|tier| tier.above < total_input);
        let reached = &self.tiers[..n_reached];
        let own = |bucket| {
            let tiers = reached.iter().rev().map(|tier| tier.rates);
            tiers.chain([self.rates]).find_map(|rates| rates.get(bucket))
        };
        // The way up has at most two steps.
        std::iter::successors(Some(bucket), |bucket| bucket.parent()).find_map(own)
    }

    /// Is there no price at all? A call to such a model cannot be held to a budget.
    pub fn is_empty(&self) -> bool {
        self.rates.is_empty() && self.request.is_none() && self.tiers.iter().all(|tier| tier.rates.is_empty())
    }
}

/// What a call costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The amount, rounded once.
    pub amount: Money,
    /// Tokens that have no price and are not in the amount.
    pub unpriced_tokens: u64,
}

/// The cost of a call, by the rules in the doc of [`super`].
pub fn cost(prices: &Prices, usage: &Usage) -> Cost {
    let total_input = usage.total_input();
    let mut cost = Cost::default();
    // In 10⁻²⁴ USD. `None` is more than 10¹⁴ USD, and so more than an amount can express.
    let mut units = Some(prices.request.map_or(0, UnitPrice::units));
    for bucket in Bucket::ALL {
        let tokens = bucket.tokens(usage);
        if tokens == 0 {
            continue;
        }
        match prices.price(bucket, total_input) {
            Some(price) => units = add_product(units, price, tokens),
            None => cost.unpriced_tokens = cost.unpriced_tokens.saturating_add(tokens),
        }
    }
    cost.amount = to_money(units, Rounding::HalfEven);
    cost
}

/// The most a call with so many tokens can cost, in whatever buckets they fall: the dearest price of any
/// bucket and tier it can reach, rounded up. `None` where a price is missing, so that there is no bound.
///
/// For every usage with `total_input() <= max_input_tokens` and `total_output() <= max_output_tokens`,
/// [`cost`] is at most this.
pub fn cost_bound(prices: &Prices, max_input_tokens: u64, max_output_tokens: u64) -> Option<Money> {
    if prices.is_empty() {
        return None;
    }
    let reachable = prices.tiers.iter().map(|tier| tier.above);
    let sizes: Vec<u64> = reachable
        .take_while(|&above| above < max_input_tokens)
        .map(|above| above.saturating_add(1))
        .chain([0])
        .collect();
    let dearest = |buckets: &[Bucket], tokens: u64| -> Option<UnitPrice> {
        if tokens == 0 {
            return Some(UnitPrice::ZERO);
        }
        let mut dearest = None;
        for &bucket in buckets {
            for &size in &sizes {
                // One price missing is one kind of token that a bound would not hold for.
                dearest = dearest.max(Some(prices.price(bucket, size)?));
            }
        }
        dearest
    };
    let input = dearest(&Bucket::INPUT, max_input_tokens)?;
    let output = dearest(&Bucket::OUTPUT, max_output_tokens)?;
    let request = Some(prices.request.map_or(0, UnitPrice::units));
    let units = add_product(request, input, max_input_tokens);
    Some(to_money(
        add_product(units, output, max_output_tokens),
        Rounding::Up,
    ))
}

/// `sum` + `price` × `tokens`, or `None` above what a `u128` holds: 3.4 × 10¹⁴ USD.
fn add_product(sum: Option<u128>, price: UnitPrice, tokens: u64) -> Option<u128> {
    let product = price.units().checked_mul(u128::from(tokens))?;
    sum?.checked_add(product)
}

#[derive(Clone, Copy)]
enum Rounding {
    HalfEven,
    Up,
}

fn to_money(units: Option<u128>, rounding: Rounding) -> Money {
    const UNITS_PER_PICO_USD: u128 = 10_u128.pow(PRICE_PLACES - MONEY_PLACES);
    let Some(units) = units else {
        return Money::MAX;
    };
    let (whole, rest) = (units / UNITS_PER_PICO_USD, units % UNITS_PER_PICO_USD);
    let up = match rounding {
        Rounding::Up => rest > 0,
        Rounding::HalfEven => {
            let half = UNITS_PER_PICO_USD / 2;
            rest > half || (rest == half && whole % 2 == 1)
        }
    };
    i64::try_from(whole + u128::from(up)).map_or(Money::MAX, Money::from_pico_usd)
}

#[cfg(test)]
mod tests;

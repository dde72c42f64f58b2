//! JSON documents: every string and number of a request or of a REST body, and the fields of which only
//! the name says that they are personal.
//!
//! A field's name counts as a word before its value: `{"phone": "4155552671"}` is a telephone number. A
//! string that is JSON itself, such as the arguments of a tool's call, is walked as JSON, and printed
//! again only if something was found in it. Keys are scrubbed as texts are.

use super::rules::RuleError;
use super::scrub::{Found, Scrubber};
use super::vault::Vault;
use super::words::Words;
use serde_json::{Map, Value};

/// How deep values may nest; the limit of serde_json. What is deeper is cut off, and counted.
pub(super) const DEPTH_MAX: usize = 127;
/// How often JSON may be a string in JSON and still be read as such.
const NESTED_MAX: usize = 3;
/// The most steps of a path.
const STEPS_MAX: usize = 32;

/// A place in JSON documents, such as `customer.cards[*].number`: keys with dots between, `[3]`, `[*]`
/// for every element, `*` for every key, `['a.b']` for a key with signs. `$.` in front is fine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    AnyKey,
    Index(usize),
    AnyIndex,
}

impl JsonPath {
    /// Reads a path.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn parse(path: &str) -> Result<Self, String> {
        let mut rest = path.strip_prefix('$').unwrap_or(path);
        let mut steps = Vec::new();
        if path != "$" && !rest.starts_with(['.', '[']) {
            rest = Self::key(rest, path, &mut steps)?;
        }
        while !rest.is_empty() {
            if steps.len() >= STEPS_MAX {
                return Err(format!("`{path}` has more than {STEPS_MAX} steps"));
            }
            rest = if let Some(key) = rest.strip_prefix('.') {
                Self::key(key, path, &mut steps)?
            } else {
                Self::bracket(rest, path, &mut steps)?
            };
        }
        Ok(Self(steps))
    }

    fn key<'p>(rest: &'p str, path: &str, steps: &mut Vec<Step>) -> Result<&'p str, String> {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (key, rest) = rest.split_at(end);
        steps.push(match key {
            "" => {
                return Err(format!(
                    "`{path}` lacks a key: expected one like `customer.cards[*].number`"
                ));
            }
            "*" => Step::AnyKey,
            key => Step::Key(key.to_owned()),
        });
        Ok(rest)
    }

    fn bracket<'p>(rest: &'p str, path: &str, steps: &mut Vec<Step>) -> Result<&'p str, String> {
        let fail = || format!("`{path}`: expected `[*]`, `[3]` or `['key']` at `{rest}`");
        let inner = rest.strip_prefix('[').ok_or_else(fail)?;
        for quote in ['\'', '"'] {
            if let Some(quoted) = inner.strip_prefix(quote) {
                let (key, rest) = quoted.split_once(quote).ok_or_else(fail)?;
                steps.push(Step::Key(key.to_owned()));
                return rest.strip_prefix(']').ok_or_else(fail);
            }
        }
        let (index, rest) = inner.split_once(']').ok_or_else(fail)?;
        steps.push(match index {
            "*" => Step::AnyIndex,
            index => Step::Index(index.parse().map_err(|_| fail())?),
        });
        Ok(rest)
    }

    fn is_at(&self, place: &[At]) -> bool {
        self.0.len() == place.len()
            && self.0.iter().zip(place).all(|(step, at)| match (step, at) {
                (Step::Key(key), At::Key(at)) => key == at,
                (Step::Index(index), At::Index(at)) => index == at,
                (Step::AnyKey, At::Key(_)) | (Step::AnyIndex, At::Index(_)) => true,
                _ => false,
            })
    }
}

/// A step of the way to the value at hand.
#[derive(Clone, Debug)]
enum At {
    Key(String),
    Index(usize),
}

/// Which values of a JSON document a rule takes as a whole.
#[derive(Clone, Debug)]
pub(crate) enum FieldTarget {
    Path(JsonPath),
    /// Names of people, by the field's name.
    Name,
    /// Sums of money, by the field's name.
    Amount,
    /// Dates, by their form, and dates of birth by the field's name.
    Date,
}

impl FieldTarget {
    pub(crate) fn path(path: &str, field: &str) -> Result<Self, RuleError> {
        JsonPath::parse(path)
            .map(Self::Path)
            .map_err(|problem| RuleError::new(field, problem))
    }

    fn takes(&self, place: &[At], key: &str, value: &Value) -> bool {
        match self {
            Self::Path(path) => path.is_at(place),
            Self::Name => value.is_string() && names(&NAME_KEYS, key),
            Self::Amount => {
                let digits = |text: &str| text.bytes().any(|byte| byte.is_ascii_digit());
                let sum = value.is_number() || value.as_str().is_some_and(digits);
                sum && (names(&AMOUNT_KEYS, key) || Words::new(key).end_in(&AMOUNT_KEYS))
            }
            Self::Date => {
                let dated = value.as_str().is_some_and(is_date);
                dated || (names(&BIRTH_KEYS, key) && (value.is_string() || value.is_number()))
            }
        }
    }
}

const NAME_KEYS: [&str; 44] = [
    "name",
    "fullname",
    "firstname",
    "lastname",
    "middlename",
    "givenname",
    "familyname",
    "surname",
    "forename",
    "maidenname",
    "nickname",
    "displayname",
    "legalname",
    "customername",
    "clientname",
    "patientname",
    "contactname",
    "holdername",
    "accountholder",
    "accountname",
    "accountholdername",
    "cardholder",
    "cardholdername",
    "nameoncard",
    "recipientname",
    "sendername",
    "employeename",
    "beneficiaryname",
    "ownername",
    "nom",
    "prenom",
    "prénom",
    "nombre",
    "apellido",
    "apellidos",
    "vorname",
    "nachname",
    "cognome",
    "姓名",
    "名字",
    "名前",
    "氏名",
    "имя",
    "фамилия",
];
const AMOUNT_KEYS: [&str; 34] = [
    "amount",
    "price",
    "total",
    "subtotal",
    "balance",
    "salary",
    "income",
    "wage",
    "wages",
    "fee",
    "fees",
    "cost",
    "payment",
    "tax",
    "revenue",
    "bonus",
    "debt",
    "payout",
    "refund",
    "deposit",
    "withdrawal",
    "paid",
    "金额",
    "价格",
    "余额",
    "工资",
    "betrag",
    "preis",
    "montant",
    "prix",
    "importe",
    "precio",
    "сумма",
    "цена",
];
const BIRTH_KEYS: [&str; 10] = [
    "dob",
    "birthdate",
    "birthday",
    "dateofbirth",
    "born",
    "geburtsdatum",
    "datenaissance",
    "fechanacimiento",
    "生日",
    "出生日期",
];

/// Is the key one of `keys`, its case, `_` and `-` aside?
fn names(keys: &[&str], key: &str) -> bool {
    let plain: String = key
        .chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect();
    keys.contains(&plain.as_str())
}

/// Is the whole text a date: `2024-05-06` with or without a time, `2024/05/06`, `06/05/2024`, `6.5.2024`?
fn is_date(text: &str) -> bool {
    let text = text.trim();
    let day = text.split(['T', ' ']).next().unwrap_or_default();
    let time = &text[day.len()..];
    let is_time = |c: char| c.is_ascii_digit() || "T :.,+-Zz".contains(c);
    if day.len() > 10 || time.len() > 30 || !time.chars().all(is_time) {
        return false;
    }
    ['-', '/', '.'].into_iter().any(|sep| {
        let parts: Vec<&str> = day.split(sep).collect();
        let [first, second, third] = parts[..] else {
            return false;
        };
        let number = |text: &str, lens: std::ops::RangeInclusive<usize>| {
            let digits = lens.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse::<u32>().unwrap_or(0))
        };
        let year = |text| number(text, 4..=4).is_some_and(|year| (1800..2200).contains(&year));
        let small = |text| number(text, 1..=2).is_some_and(|value| (1..=31).contains(&value));
        (year(first) && small(second) && small(third)) || (small(first) && small(second) && year(third))
    })
}

impl Scrubber {
    /// Scrubs every string and number of `value`, but for what lies at one of the `skip` paths
    /// ([`JsonPath`]): the name of the model, roles, ids of tool calls. What is no path skips nothing, so
    /// that a mistake there scrubs too much rather than too little.
    pub fn scrub_json(&self, value: &mut Value, skip: &[&str], vault: &mut Vault) -> Found {
        let mut walk = Walk {
            scrubber: self,
            skip: skip
                .iter()
                .filter_map(|path| JsonPath::parse(path).ok())
                .collect(),
            vault,
            found: Found::default(),
            place: Vec::new(),
            nested: 0,
        };
        if !self.is_empty() {
            walk.value(value, "");
        }
        walk.found
    }
}

struct Walk<'a> {
    scrubber: &'a Scrubber,
    skip: Vec<JsonPath>,
    vault: &'a mut Vault,
    found: Found,
    place: Vec<At>,
    nested: usize,
}

impl Walk<'_> {
    /// `key`: the name of the field, or of the list that it is in.
    fn value(&mut self, value: &mut Value, key: &str) {
        if self.nested == 0 && self.skip.iter().any(|path| path.is_at(&self.place)) {
            return;
        }
        if self.place.len() > DEPTH_MAX {
            self.found.cut_too_deep();
            *value = Value::Null;
            return;
        }
        let field = self.scrubber.fields.iter();
        if let Some((rule, _)) = field
            .filter(|(_, target)| !matches!(target, FieldTarget::Path(_)) || self.nested == 0)
            .find(|(_, target)| target.takes(&self.place, key, value))
        {
            self.whole(*rule, value, 0);
            return;
        }
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => {
                let text = number.to_string();
                if let Some(rule) = self.scrubber.all_of(&text, key) {
                    self.whole(rule, value, 0);
                }
            }
            Value::String(text) => self.string(text, key),
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.place.push(At::Index(index));
                    self.value(item, key);
                    self.place.pop();
                }
            }
            Value::Object(fields) => {
                for (key, value) in fields.iter_mut() {
                    self.place.push(At::Key(key.clone()));
                    self.value(value, key);
                    self.place.pop();
                }
                self.keys(fields);
            }
        }
    }

    fn string(&mut self, text: &mut String, key: &str) {
        if self.nested < NESTED_MAX
            && text.trim_start().starts_with(['{', '['])
            && let Ok(mut inner) = serde_json::from_str::<Value>(text)
            && (inner.is_object() || inner.is_array())
        {
            let before = self.found.total();
            let place = std::mem::take(&mut self.place);
            self.nested += 1;
            self.value(&mut inner, key);
            self.nested -= 1;
            self.place = place;
            if self.found.total() > before {
                *text = inner.to_string();
            }
            return;
        }
        let mut out = String::with_capacity(text.len());
        let before = self.found.total();
        self.scrubber
            .scrub_within(text, key, self.vault, &mut out, &mut self.found);
        if self.found.total() > before {
            *text = out;
        }
    }

    /// Scrubs keys. Of two that become the same, the later gets a number, so that no value is lost.
    fn keys(&mut self, fields: &mut Map<String, Value>) {
        let scrubbed = |key: &String| !self.scrubber.find(key).is_empty();
        if !fields.keys().any(scrubbed) {
            return;
        }
        for (key, value) in std::mem::take(fields) {
            let mut out = String::new();
            self.scrubber
                .scrub_within(&key, "", self.vault, &mut out, &mut self.found);
            let mut unique = out.clone();
            let mut number = 2;
            while fields.contains_key(&unique) {
                unique = format!("{out} {number}");
                number += 1;
            }
            fields.insert(unique, value);
        }
    }

    /// Does with every scalar of `value` what the rule says. A number stays one if it can.
    fn whole(&mut self, rule: usize, value: &mut Value, depth: usize) {
        let text = match value {
            Value::Null => return,
            Value::Bool(bool) => bool.to_string(),
            Value::Number(number) => number.to_string(),
            Value::String(text) => std::mem::take(text),
            Value::Array(_) | Value::Object(_) if depth > DEPTH_MAX => {
                self.found.cut_too_deep();
                *value = Value::Null;
                return;
            }
            Value::Array(items) => {
                items
                    .iter_mut()
                    .for_each(|item| self.whole(rule, item, depth + 1));
                return;
            }
            Value::Object(fields) => {
                fields
                    .values_mut()
                    .for_each(|value| self.whole(rule, value, depth + 1));
                return;
            }
        };
        let mut out = String::new();
        self.scrubber
            .apply(rule, &text, self.vault, &mut out, &mut self.found);
        *value = match value {
            Value::Number(_) => serde_json::from_str(&out)
                .ok()
                .filter(Value::is_number)
                .unwrap_or(Value::String(out)),
            _ => Value::String(out),
        };
    }
}

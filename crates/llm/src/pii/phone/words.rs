//! The words before a number that say whether it is a telephone number.

use crate::pii::view::View;
use crate::pii::words::WordSet;

/// Words that say so.
static WORDS: WordSet = WordSet::new(&[
    "phone",
    "telephone",
    "tel",
    "mobile",
    "cellphone",
    "fax",
    "whatsapp",
    "whats app",
    "handy",
    "telefon",
    "téléphone",
    "tél",
    "telefono",
    "teléfono",
    "appelez",
    "appeler",
    "llame",
    "llamar",
    "chiama",
    "anruf",
    "rufen",
    "móvil",
    "movil",
    "celular",
    "cel",
    "telefone",
    "ligue",
    "zadzwoń",
    "电话",
    "手机",
    "手机号",
    "致电",
    "电话号码",
    "電話",
    "携帯",
    "전화",
    "휴대폰",
    "телефон",
    "тел",
    "звоните",
    "позвоните",
    "फ़ोन",
    "फोन",
    "هاتف",
    "اتصل",
    "mobil",
    "msisdn",
    "telemóvel",
    "telemovel",
    "tlf",
    "cellulare",
    "cellular",
    "telefoon",
    "mobilen",
    "puhelin",
    "τηλέφωνο",
    "điện thoại",
    "เบอร์",
    "โทร",
    "landline",
    "hotline",
    "座机",
    "固话",
    "手提",
    "연락처",
    "연락",
]);
/// Words that say so only right before the number.
static WEAK_WORDS: WordSet = WordSet::new(&[
    "cell", "call", "text", "sms", "dial", "ring", "reach", "contact", "bel", "联系",
]);
/// Words that say that it is something else.
static OTHER_WORDS: WordSet = WordSet::new(&[
    "order",
    "invoice",
    "tracking",
    "po",
    "ref",
    "reference",
    "id",
    "serial",
    "part",
    "sku",
    "isbn",
    "ticket",
    "issn",
    "bytes",
    "build",
    "version",
    "lot",
    "batch",
    "upc",
    "ean",
    "doi",
    "arxiv",
    "pmid",
    "epoch",
    "total",
    "sum",
    "订单",
    "订单号",
    "单号",
    "编号",
    "流水",
    "流水号",
    "学号",
    "工号",
    "bestellnummer",
    "commande",
    "pedido",
    "account",
    "uuid",
    "timestamp",
    "amount",
    "price",
    "zip",
    "size",
    "seed",
    "created",
    "ts",
    "nonce",
    "transaction",
    "passport",
]);

/// How near a word must be to make a telephone number of plain digits.
const NEAR_BYTES: usize = 32;
const WEAK_NEAR_BYTES: usize = 14;

/// What the nearest word before a number says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    Phone,
    Other,
    None,
}

/// Does a word say that what begins at `start` is a telephone number?
pub(crate) fn is_said(view: &View<'_>, start: usize) -> bool {
    hint(view, start) == Hint::Phone
}

/// Does a word say that what begins at `start` is something else: an order, a part, a time?
pub(crate) fn is_other(view: &View<'_>, start: usize) -> bool {
    hint(view, start) == Hint::Other
}

pub(crate) fn hint(view: &View<'_>, start: usize) -> Hint {
    let words = view.words_before(start);
    let within = |at: &usize, bytes: usize| words.len() - at <= bytes;
    let weak = words
        .last_of(&WEAK_WORDS)
        .filter(|at| within(at, WEAK_NEAR_BYTES))
        // In prose: neither `text("123")` nor `ring = 123`.
        .filter(|at| !words.from(*at).contains(['=', '(', '"', '.', '<', '[']));
    let phone = words.last_of(&WORDS).max(weak);
    let other = words.last_of(&OTHER_WORDS);
    match phone {
        Some(at) if other.is_none_or(|other| other < at) => {
            if within(&at, NEAR_BYTES) {
                Hint::Phone
            } else {
                Hint::None
            }
        }
        _ if other.is_some() => Hint::Other,
        _ => Hint::None,
    }
}

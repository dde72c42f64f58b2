//! `Filter::eval` runs once per packet and must not allocate. Alone in its program, since it counts
//! the allocations of the whole thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use policy::filter::{Facts, Field, Filter, Value};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Packet;

impl Facts for Packet {
    fn get(&self, field: Field) -> Value<'_> {
        match field {
            Field::Src | Field::Dst => Value::Addr([10, 1, 2, 3].into()),
            Field::Dport => Value::Int(443),
            Field::Flags => Value::Int(0x10),
            Field::TlsSni => Value::Str("a.b.Example.com"),
            Field::SrcMac => Value::Mac([2; 6]),
            _ => Value::Missing,
        }
    }
}

#[test]
fn eval_allocates_nothing() {
    let filter: Filter =
        "src in {192.0.2.0/24, 10.0.0.0/8} and dport in {80, 443, 8000-8100} and not flags.syn \
        and host in 10.0.0.0/8 and tls.sni matches *.EXAMPLE.com and tls.sni contains {x, example} \
        and src.mac != 02:00:00:00:00:01 and not country == DE and flags in {S, A}"
            .parse()
            .expect("a filter");
    let before = ALLOCATIONS.get();
    assert!(before > 0, "parsing allocates, so the counter counts");
    let holds = filter.eval(&Packet);
    assert_eq!(ALLOCATIONS.get(), before);
    assert!(holds);
}

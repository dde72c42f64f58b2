//! Keys and hashes.

use super::*;

#[test]
fn a_key_is_the_same_for_both_directions() {
    let there = client(0, ACK, 1, 0).packet();
    let back = server(0, ACK, 1, 0).packet();
    let (key, direction) = FlowKey::of(&there, 3);
    assert_eq!(FlowKey::of(&back, 3), (key, direction.opposite()));
    assert_eq!(direction, Direction::AToB);
    assert_eq!(key.source(direction), (there.src, there.src_port));
    assert_eq!(key.source(direction.opposite()), (back.src, back.src_port));
    assert_eq!(key.ifindex, 3);
}

#[test]
fn a_key_between_ports_of_one_address_goes_by_port() {
    let mut there = client(0, ACK, 1, 0).packet();
    there.dst = there.src;
    let back = Packet {
        src_port: there.dst_port,
        dst_port: there.src_port,
        ..there
    };
    let (key, direction) = FlowKey::of(&there, 1);
    assert_eq!(FlowKey::of(&back, 1), (key, direction.opposite()));
    assert!(key.a_port < key.b_port);
}

#[test]
fn every_part_of_a_key_counts() {
    let packet = client(0, ACK, 1, 0).packet();
    let (key, _) = FlowKey::of(&packet, 1);
    let changed = [
        FlowKey::of(
            &Packet {
                src_port: 1,
                ..packet
            },
            1,
        ),
        FlowKey::of(
            &Packet {
                dst_port: 1,
                ..packet
            },
            1,
        ),
        FlowKey::of(
            &Packet {
                src: Addr::v4([10, 0, 0, 0]),
                ..packet
            },
            1,
        ),
        FlowKey::of(
            &Packet {
                dst: Addr::v4([10, 0, 0, 3]),
                ..packet
            },
            1,
        ),
        FlowKey::of(&Packet { vlan: 1, ..packet }, 1),
        FlowKey::of(
            &Packet {
                vlan_inner: 1,
                ..packet
            },
            1,
        ),
        FlowKey::of(&Packet { tunnel: 1, ..packet }, 1),
        FlowKey::of(
            &Packet {
                tunnel_id: 1,
                ..packet
            },
            1,
        ),
        FlowKey::of(&Packet { family: 6, ..packet }, 1),
        FlowKey::of(
            &Packet {
                protocol: 17,
                ..packet
            },
            1,
        ),
        FlowKey::of(&packet, 2),
    ];
    let keys = HashKeys(KEYS);
    for (other, _) in changed {
        assert_ne!(other, key);
        assert_ne!(other.hash(&keys), key.hash(&keys));
    }
}

const KEYS: [u32; 14] = [
    0x9e37_79b9,
    0x7f4a_7c15,
    0xf39c_c060,
    0x5ced_c834,
    0x1082_276b,
    0xf3a2_7251,
    0xf86c_6a11,
    0xd0c1_8e95,
    0x2767_f0b1,
    0x53d2_7b69,
    0x0347_045b,
    0x5bf1_827f,
    0x0188_6f09,
    0x2840_3002,
];

#[test]
fn a_bit_of_a_key_changes_half_of_the_hash() {
    let keys = HashKeys(KEYS);
    let mut changed = 0u32;
    const SAMPLES: u32 = 2000;
    for i in 0..SAMPLES {
        let port = 1024 + i as u16;
        let packet = Packet {
            src_port: port,
            ..client(0, ACK, 1, 0).packet()
        };
        let neighbour = Packet {
            src_port: port ^ (1 << (i % 10)),
            ..packet
        };
        let (one, other) = (
            FlowKey::of(&packet, 1).0.hash(&keys),
            FlowKey::of(&neighbour, 1).0.hash(&keys),
        );
        assert_ne!(one, other);
        changed += (one ^ other).count_ones();
    }
    let average = f64::from(changed) / f64::from(SAMPLES);
    assert!((31.0..33.0).contains(&average), "{average} bits change");
}

#[test]
fn hashes_fill_a_table_evenly() {
    let keys = HashKeys(KEYS);
    let mut cells = [0u32; 256];
    for i in 0..25_600u32 {
        let [_, _, high, low] = i.to_be_bytes();
        let packet = Packet {
            src: Addr::v4([192, 168, high, low]),
            ..client(0, ACK, 1, 0).packet()
        };
        cells[FlowKey::of(&packet, 1).0.hash(&keys) as usize & 255] += 1;
    }
    // 100 on average, standard deviation 10.
    assert!(cells.iter().all(|&count| (50..150).contains(&count)), "{cells:?}");
}

#[test]
fn other_hash_keys_give_other_hashes() {
    let (key, _) = FlowKey::of(&client(0, ACK, 1, 0).packet(), 1);
    for i in 0..KEYS.len() - 1 {
        let mut other = KEYS;
        other[i] ^= 0x1000;
        assert_ne!(key.hash(&HashKeys(KEYS)), key.hash(&HashKeys(other)), "word {i}");
    }
}

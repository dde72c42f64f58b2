//! What the socket layer knows: who owns a socket, how TCP itself sees a connection.

use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_RETRANS_CB,
    BPF_SOCK_OPS_RETRANS_CB_FLAG, BPF_SOCK_OPS_RTT_CB, BPF_SOCK_OPS_RTT_CB_FLAG, BPF_SOCK_OPS_STATE_CB,
    BPF_SOCK_OPS_STATE_CB_FLAG, BPF_TCP_CLOSE, bpf_sock, bpf_sock_ops,
};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_sk_fullsock, bpf_sk_storage_get};
use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
};
use wire::flow::{Owner, row_flag};
use wire::rows::{SocketKey, SocketRow};
use wire::{Addr, Clock, FlowRow, ip_proto};

use crate::clock::KernelClock;
use crate::maps::{OWNERS, SOCKETS, load_settings, lost};

const STORAGE_CREATE: u64 = aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE as u64;
const AF_INET6: u32 = 10;

/// In process context: remembers the current process as the socket's owner.
///
/// # Safety
///
/// `socket` must be the program's own context.
#[inline(always)]
pub unsafe fn remember_owner(socket: *mut bpf_sock) {
    // SAFETY: the socket is the context; the storage row lives as long as the socket.
    unsafe {
        let row = bpf_sk_storage_get(
            OWNERS.as_ptr(),
            socket.cast(),
            core::ptr::null_mut(),
            STORAGE_CREATE,
        );
        let Some(owner) = row.cast::<Owner>().as_mut() else {
            return;
        };
        owner.pid = (bpf_get_current_pid_tgid() >> 32) as u32;
        owner.uid = bpf_get_current_uid_gid() as u32;
        owner.cgroup_id = bpf_get_current_cgroup_id();
        if let Ok(comm) = bpf_get_current_comm() {
            owner.comm = comm;
        }
    }
}

/// Copies the owner of the sending socket into its flow's row, once.
///
/// # Safety
///
/// `socket` must be null or come from the program's own context.
#[inline(always)]
pub unsafe fn fill_owner(socket: *mut bpf_sock, row: &mut FlowRow) {
    if socket.is_null() {
        return;
    }
    // SAFETY: helpers check the socket; the storage row lives as long as it.
    unsafe {
        let full = bpf_sk_fullsock(socket);
        if full.is_null() {
            // A handshake's request socket: the real one comes later.
            return;
        }
        row.flags |= row_flag::OWNER_TRIED;
        let owner = bpf_sk_storage_get(OWNERS.as_ptr(), full.cast(), core::ptr::null_mut(), 0);
        if let Some(owner) = owner.cast::<Owner>().as_ref() {
            row.owner = *owner;
        }
    }
}

/// A socket-operations callback: connections begin, are measured, lose segments, end.
///
/// # Safety
///
/// `ops` must be the program's own context.
#[inline(always)]
pub unsafe fn socket_operation(ops: *mut bpf_sock_ops) {
    // SAFETY: by this function's contract, which is that of those it calls.
    unsafe {
        match (*ops).op {
            BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => established(ops, 1),
            BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => established(ops, 0),
            BPF_SOCK_OPS_RTT_CB => measured(ops),
            BPF_SOCK_OPS_RETRANS_CB => retransmitted(ops),
            BPF_SOCK_OPS_STATE_CB => changed_state(ops),
            _ => {}
        }
    }
}

#[inline(always)]
unsafe fn key_of(ops: *mut bpf_sock_ops) -> SocketKey {
    // SAFETY: fields of the context; the kernel rewrites each access.
    unsafe {
        let family = (*ops).family;
        let mut key = SocketKey {
            local_port: (*ops).local_port as u16,
            // In network order in the upper half of the word.
            remote_port: u32::from_be((*ops).remote_port) as u16,
            protocol: ip_proto::TCP,
            family: 4,
            ..SocketKey::default()
        };
        if family == AF_INET6 {
            let local = [
                (*ops).local_ip6[0],
                (*ops).local_ip6[1],
                (*ops).local_ip6[2],
                (*ops).local_ip6[3],
            ];
            let remote = [
                (*ops).remote_ip6[0],
                (*ops).remote_ip6[1],
                (*ops).remote_ip6[2],
                (*ops).remote_ip6[3],
            ];
            if is_mapped(&remote) {
                key.local = Addr([0, 0, 0, local[3]]);
                key.remote = Addr([0, 0, 0, remote[3]]);
            } else {
                key.family = 6;
                key.local = Addr(local);
                key.remote = Addr(remote);
            }
        } else {
            key.local = Addr([0, 0, 0, (*ops).local_ip4]);
            key.remote = Addr([0, 0, 0, (*ops).remote_ip4]);
        }
        key
    }
}

/// `::ffff:a.b.c.d`, how a dual-stack socket names an IPv4 peer.
#[inline(always)]
fn is_mapped(addr: &[u32; 4]) -> bool {
    addr[0] == 0 && addr[1] == 0 && addr[2] == u32::from_be(0x0000_ffff)
}

#[inline(always)]
unsafe fn established(ops: *mut bpf_sock_ops, active: u32) {
    // SAFETY: fields of the context, helpers that check their arguments.
    unsafe {
        let observed = load_settings().netns_cookie;
        if observed != 0 && bpf_get_netns_cookie(ops.cast()) != observed {
            return;
        }
        let wanted = BPF_SOCK_OPS_RTT_CB_FLAG | BPF_SOCK_OPS_RETRANS_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG;
        let flags = (*ops).bpf_sock_ops_cb_flags | wanted;
        aya_ebpf::helpers::bpf_sock_ops_cb_flags_set(ops, flags as i32);
        let mut row = SocketRow {
            active,
            state: 1,
            last_ns: KernelClock.coarse_ns(),
            ..SocketRow::default()
        };
        let socket = (*ops).__bindgen_anon_2.sk;
        if !socket.is_null() {
            let owner = bpf_sk_storage_get(OWNERS.as_ptr(), socket.cast(), core::ptr::null_mut(), 0);
            if let Some(owner) = owner.cast::<Owner>().as_ref() {
                row.owner = *owner;
            }
        }
        note_rtt(&mut row, (*ops).srtt_us);
        if SOCKETS.insert(key_of(ops), row, 0).is_err() {
            lost(|losses| losses.socket_table_full += 1);
        }
    }
}

#[inline(always)]
fn note_rtt(row: &mut SocketRow, srtt_us_times_8: u32) {
    let srtt_us = srtt_us_times_8 >> 3;
    row.srtt_us = srtt_us;
    if srtt_us != 0 && (row.srtt_min_us == 0 || srtt_us < row.srtt_min_us) {
        row.srtt_min_us = srtt_us;
    }
}

#[inline(always)]
unsafe fn row_of(ops: *mut bpf_sock_ops) -> Option<&'static mut SocketRow> {
    // SAFETY: map values live as long as the program runs.
    unsafe { SOCKETS.get_ptr_mut(key_of(ops)).map(|row| &mut *row) }
}

#[inline(always)]
unsafe fn measured(ops: *mut bpf_sock_ops) {
    // SAFETY: fields of the context.
    unsafe {
        let Some(row) = row_of(ops) else { return };
        note_rtt(row, (*ops).srtt_us);
        row.lost = (*ops).lost_out;
        row.congestion_window = (*ops).snd_cwnd;
        row.last_ns = KernelClock.coarse_ns();
    }
}

#[inline(always)]
unsafe fn retransmitted(ops: *mut bpf_sock_ops) {
    // SAFETY: fields of the context.
    unsafe {
        if let Some(row) = row_of(ops) {
            row.retransmits = (*ops).total_retrans;
        }
    }
}

#[inline(always)]
unsafe fn changed_state(ops: *mut bpf_sock_ops) {
    // SAFETY: fields of the context.
    unsafe {
        let Some(row) = row_of(ops) else { return };
        let new_state = (*ops).__bindgen_anon_1.args[1];
        row.state = new_state;
        row.retransmits = (*ops).total_retrans;
        if new_state == BPF_TCP_CLOSE {
            row.last_ns = KernelClock.exact_ns();
        }
    }
}

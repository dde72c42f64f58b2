//! Names of the kernel's numbers, as bpftool and the kernel's documentation write them.
//!
//! Numbers newer than these tables are shown as numbers, never dropped.

/// By `enum bpf_prog_type`.
const PROGRAM_KINDS: &[&str] = &[
    "unspec",
    "socket_filter",
    "kprobe",
    "sched_cls",
    "sched_act",
    "tracepoint",
    "xdp",
    "perf_event",
    "cgroup_skb",
    "cgroup_sock",
    "lwt_in",
    "lwt_out",
    "lwt_xmit",
    "sock_ops",
    "sk_skb",
    "cgroup_device",
    "sk_msg",
    "raw_tracepoint",
    "cgroup_sock_addr",
    "lwt_seg6local",
    "lirc_mode2",
    "sk_reuseport",
    "flow_dissector",
    "cgroup_sysctl",
    "raw_tracepoint_writable",
    "cgroup_sockopt",
    "tracing",
    "struct_ops",
    "ext",
    "lsm",
    "sk_lookup",
    "syscall",
    "netfilter",
];

/// By `enum bpf_map_type`.
const MAP_KINDS: &[&str] = &[
    "unspec",
    "hash",
    "array",
    "prog_array",
    "perf_event_array",
    "percpu_hash",
    "percpu_array",
    "stack_trace",
    "cgroup_array",
    "lru_hash",
    "lru_percpu_hash",
    "lpm_trie",
    "array_of_maps",
    "hash_of_maps",
    "devmap",
    "sockmap",
    "cpumap",
    "xskmap",
    "sockhash",
    "cgroup_storage",
    "reuseport_sockarray",
    "percpu_cgroup_storage",
    "queue",
    "stack",
    "sk_storage",
    "devmap_hash",
    "struct_ops",
    "ringbuf",
    "inode_storage",
    "task_storage",
    "bloom_filter",
    "user_ringbuf",
    "cgrp_storage",
    "arena",
    "insn_array",
];

/// By `enum bpf_attach_type`.
const ATTACH_TYPES: &[&str] = &[
    "inet_ingress",
    "inet_egress",
    "inet_sock_create",
    "sock_ops",
    "stream_parser",
    "stream_verdict",
    "device",
    "msg_verdict",
    "inet4_bind",
    "inet6_bind",
    "inet4_connect",
    "inet6_connect",
    "inet4_post_bind",
    "inet6_post_bind",
    "udp4_sendmsg",
    "udp6_sendmsg",
    "lirc_mode2",
    "flow_dissector",
    "sysctl",
    "udp4_recvmsg",
    "udp6_recvmsg",
    "getsockopt",
    "setsockopt",
    "tp_btf",
    "fentry",
    "fexit",
    "fmod_ret",
    "lsm",
    "iter",
    "inet4_getpeername",
    "inet6_getpeername",
    "inet4_getsockname",
    "inet6_getsockname",
    "xdp_devmap",
    "inet_sock_release",
    "xdp_cpumap",
    "sk_lookup",
    "xdp",
    "skb_verdict",
    "reuseport_select",
    "reuseport_select_or_migrate",
    "perf_event",
    "kprobe_multi",
    "lsm_cgroup",
    "struct_ops",
    "netfilter",
    "ingress",
    "egress",
    "uprobe_multi",
    "unix_connect",
    "unix_sendmsg",
    "unix_recvmsg",
    "unix_getpeername",
    "unix_getsockname",
    "primary",
    "peer",
    "kprobe_session",
    "uprobe_session",
    "fsession",
];

fn name(table: &[&str], number: u32, what: &str) -> String {
    table
        .get(number as usize)
        .map_or_else(|| format!("{what} {number}"), |&name| name.to_owned())
}

pub(super) fn program_kind(number: u32) -> String {
    name(PROGRAM_KINDS, number, "type")
}

pub(super) fn map_kind(number: u32) -> String {
    name(MAP_KINDS, number, "type")
}

pub(super) fn attach_type(number: u32) -> String {
    name(ATTACH_TYPES, number, "attach type")
}

/// Program types that matter to the collection (`enum bpf_prog_type`).
pub(super) mod program_type {
    pub(crate) const CGROUP: &[u32] = &[8, 9, 13, 15, 18, 23, 25, 29];
    pub(crate) const SOCKMAP: &[u32] = &[14, 16];
    pub(crate) const XDP: u32 = 6;
    pub(crate) const SCHED_CLS: u32 = 3;
    pub(crate) const SCHED_ACT: u32 = 4;
    pub(crate) const FLOW_DISSECTOR: u32 = 22;
    pub(crate) const SK_LOOKUP: u32 = 30;
}

/// Map types that matter to the collection (`enum bpf_map_type`).
pub(super) mod map_type {
    pub(crate) const PROG_ARRAY: u32 = 3;
    pub(crate) const DEVMAP: u32 = 14;
    pub(crate) const SOCKMAP: u32 = 15;
    pub(crate) const CPUMAP: u32 = 16;
    pub(crate) const SOCKHASH: u32 = 18;
    pub(crate) const DEVMAP_HASH: u32 = 25;
}

/// Hooks that are asked for (`enum bpf_attach_type`).
pub(super) mod hook {
    /// All that a cgroup has.
    pub(crate) const CGROUP: &[u32] = &[
        0, 1, 2, 3, 6, 8, 9, 10, 11, 12, 13, 14, 15, 18, 19, 20, 21, 22, 29, 30, 31, 32, 34, 43, 49, 50, 51,
        52, 53,
    ];
    /// All that a socket map has.
    pub(crate) const SOCKMAP: &[u32] = &[4, 5, 7, 38];
    pub(crate) const FLOW_DISSECTOR: u32 = 17;
    pub(crate) const SK_LOOKUP: u32 = 36;
    pub(crate) const TCX_INGRESS: u32 = 46;
    pub(crate) const TCX_EGRESS: u32 = 47;
    pub(crate) const NETKIT_PRIMARY: u32 = 54;
    pub(crate) const NETKIT_PEER: u32 = 55;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_kernels_names() {
        let check = |found: String, expected: &str| assert_eq!(found, expected);
        check(program_kind(6), "xdp");
        check(program_kind(13), "sock_ops");
        check(program_kind(26), "tracing");
        check(program_kind(32), "netfilter");
        check(program_kind(99), "type 99");
        check(map_kind(3), "prog_array");
        check(map_kind(27), "ringbuf");
        check(map_kind(33), "arena");
        check(attach_type(17), "flow_dissector");
        check(attach_type(23), "tp_btf");
        check(attach_type(36), "sk_lookup");
        check(attach_type(hook::TCX_INGRESS), "ingress");
        check(attach_type(hook::NETKIT_PEER), "peer");
        check(attach_type(1000), "attach type 1000");
    }
}

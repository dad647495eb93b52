/**
 * Which networks peers may come from.
 *
 * The protocol has no authentication, so whoever reaches a port takes part. An allow list
 * of IPv4 networks narrows that down: sockets and datagrams of other addresses are closed
 * and dropped before a byte of them is looked at. No list allows everybody, as upstream.
 *
 *   10.0.0.0/8+192.168.1.0/24+::ffff:172.16.0.0/108+10.1.2.3
 *
 * `+` separates because mount options are separated by commas. A network may be written
 * as IPv4-mapped IPv6 (prefix 96 to 128); an address alone is a network of one.
 */
import { ScoutfsError, errnoError } from '../observe/errors.js';
import type { Endpoint, Net } from './net.js';
import { endpointString, ipv4String, parseIpv4 } from './net.js';

export interface Network {
  /** first address, as in Endpoint */
  addr: number;
  /** leading bits that peers have in common, 0..32 */
  bits: number;
}

const NETWORKS_MAX = 64;
const ADDR_BITS = 32;
const MAPPED_BITS = 96;

function badNetwork(text: string, why: string): ScoutfsError {
  return new ScoutfsError('BAD_NETWORK', 'EINVAL', { message: `network "${text}": ${why}` });
}

/** Addresses of a network: 1 to 2^32. */
function sizeOf(bits: number): number {
  return 2 ** (ADDR_BITS - bits);
}

function parseNetwork(text: string): Network {
  const parts = /^(::ffff:)?([0-9.]+)(?:\/([0-9]{1,3}))?$/i.exec(text);
  if (parts === null) throw badNetwork(text, 'not ADDRESS/BITS of IPv4');
  const skipped = parts[1] === undefined ? 0 : MAPPED_BITS;
  const addr = parseIpv4(parts[2] ?? '');
  const bits = parts[3] === undefined ? ADDR_BITS : Number(parts[3]) - skipped;
  if (bits < 0 || bits > ADDR_BITS) {
    throw badNetwork(text, `the prefix must be ${skipped} to ${skipped + ADDR_BITS}`);
  }
  if (addr % sizeOf(bits) !== 0) {
    throw badNetwork(text, `${ipv4String(addr)} has bits behind its prefix`);
  }
  return { addr, bits };
}

/** Parses a list. @throws EINVAL in one line */
export function parseNetworks(list: string): Network[] {
  const networks = list.split('+').map(parseNetwork);
  if (networks.length > NETWORKS_MAX) throw badNetwork(list, `more than ${NETWORKS_MAX}`);
  return networks;
}

/** The list as `parseNetworks` takes it. */
export function networksString(networks: readonly Network[]): string {
  return networks.map((n) => `${ipv4String(n.addr)}/${n.bits}`).join('+');
}

/** Whether an address is inside; an empty list has everybody inside. */
export function isInside(networks: readonly Network[], addr: number): boolean {
  return networks.length === 0 ||
    networks.some((n) => addr >= n.addr && addr - n.addr < sizeOf(n.bits));
}

/** The same sockets for peers inside `networks` only. `refused` is told of all others. */
export function onlyFrom(net: Net, networks: readonly Network[],
  refused: (from: Endpoint) => void): Net {
  if (networks.length === 0) return net;
  const allowed = (from: Endpoint): boolean => {
    if (isInside(networks, from.addr)) return true;
    refused(from);
    return false;
  };
  return {
    connect: (to, opts) => allowed(to) ? net.connect(to, opts)
      : Promise.reject(errnoError('EACCES', `${endpointString(to)} is outside of peer_networks`)),
    listen: (at, silenceTimeoutMs, accept) => net.listen(at, silenceTimeoutMs, (socket) => {
      if (allowed(socket.remote)) {
        accept(socket);
      } else {
        socket.start({ data: () => undefined, closed: () => undefined });
        socket.destroy();
      }
    }),
    bindUdp: (at, received, closed) => net.bindUdp(at, (bytes, from) => {
      if (allowed(from)) received(bytes, from);
    }, closed),
  };
}

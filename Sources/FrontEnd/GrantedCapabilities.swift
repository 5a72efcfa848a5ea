// SPDX-License-Identifier: Apache-2.0

package import Host

/// Capabilities that the callers with the effective user ID 0 have even if the host's kernel does
/// not grant them, as the root user of a container lacks capabilities of the host's root user. A
/// granted capability is part of root's effective set, which a change of the effective user ID
/// empties (commoncap: cap_capable(), cap_emulate_setxuid()).
package struct GrantedCapabilities: Sendable {
  private let capabilities: Set<Capability>

  package init(_ capabilities: Set<Capability> = []) {
    self.capabilities = capabilities
  }

  /// Returns what capable() returns in the kernel for `task`, or true for a granted capability.
  package func isCapable(_ task: HostTask, of capability: Capability) -> Bool {
    task.isCapable(of: capability)
      || capabilities.contains(capability) && task.isPrivilegedRoot
  }
}

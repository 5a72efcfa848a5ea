// SPDX-License-Identifier: Apache-2.0

/// The process for which something of the server is used, and its user: the holder of a share.
package struct ClientIdentity: Hashable, Sendable {
  /// The user ID, as the server's user namespace shows it.
  package let user: UInt32
  /// The process ID (thread group), in the server's pid namespace.
  package let process: Int32

  package init(user: UInt32, process: Int32) {
    self.user = user
    self.process = process
  }

  /// The process of `task`, without regard to its user.
  package init(of task: HostTask) {
    self.init(user: 0, process: (try? task.processID()) ?? task.id)
  }
}

// SPDX-License-Identifier: Apache-2.0

package import Host
package import SystemPackage

/// The caller of an operation on an open file: its memory, its rights and its descriptors. A front
/// end makes one `Client` for each call and discards it when the call returns.
package protocol Client: UserMemory {
  /// The calling thread, in the pid namespace of this server.
  var task: HostTask { get }

  /// Returns what capable() returns in the kernel for the caller. The default asks the host about
  /// ``task``.
  func isCapable(of capability: Capability) -> Bool

  /// Returns the address space (mm) of the caller, for pages that stay pinned after the call. All
  /// calls from one mm return the same object while a reference to it exists.
  func addressSpace() throws(Errno) -> AddressSpace

  /// Returns a copy of the caller's descriptor `number`.
  /// - Throws: `.badFileDescriptor`.
  func duplicateDescriptor(_ number: Int32) throws(Errno) -> OwnedDescriptor

  /// Returns the open file of this server behind the caller's descriptor `number`, or `nil` when
  /// the descriptor refers to a file that this server does not serve.
  /// - Throws: `.badFileDescriptor`.
  func openFile(_ number: Int32) throws(Errno) -> (any OpenFile)?

  /// Makes a descriptor of the caller for `file`, O_RDWR and close-on-exec, and calls `publish`,
  /// which stores its number where the client reads it. When `publish` throws, the client has no
  /// such descriptor and the error is passed on. `release()` of `file` is not called then, because
  /// only an installed file is released.
  /// - Throws: `.tooManyOpenFiles`; `.notSupported` when the front end cannot make descriptors.
  func install(
    _ file: any OpenFile, publish: (_ number: Int32) throws(Errno) -> Void
  ) throws(Errno)
}

extension Client {
  package func isCapable(of capability: Capability) -> Bool { task.isCapable(of: capability) }
}

// Who is calling. A front end makes one `Client` per call and forgets it when the call returns.

package import Host
package import SystemPackage

package protocol Client: UserMemory {
  /// The calling thread, in this server's pid namespace.
  var task: HostTask { get }

  /// The kernel's capable() for the caller. The default asks the host about ``task``.
  func isCapable(of capability: Capability) -> Bool

  /// The caller's address space, for pages that stay pinned after the call. Two calls from the same
  /// mm get the same object for as long as somebody holds it.
  func addressSpace() throws(Errno) -> AddressSpace

  /// A copy of the caller's descriptor `number`.
  /// - Throws: `.badFileDescriptor`.
  func duplicateDescriptor(_ number: Int32) throws(Errno) -> OwnedDescriptor

  /// The open file of *this server* behind the caller's descriptor `number`; nil when the
  /// descriptor is open but somebody else's.
  /// - Throws: `.badFileDescriptor`.
  func openFile(_ number: Int32) throws(Errno) -> (any OpenFile)?

  /// Makes a new descriptor of the caller for `file`, O_RDWR and close-on-exec, then calls `publish`
  /// with its number, in which the caller stores the number for the client to see. When `publish`
  /// throws the descriptor is withdrawn and the error passed on; nobody has seen it. `file` is not
  /// released then: only installed files are.
  /// - Throws: `.tooManyOpenFiles`; `.notSupported` where the front end cannot.
  func install(
    _ file: any OpenFile, publish: (_ number: Int32) throws(Errno) -> Void
  ) throws(Errno)
}

extension Client {
  package func isCapable(of capability: Capability) -> Bool { task.isCapable(of: capability) }
}

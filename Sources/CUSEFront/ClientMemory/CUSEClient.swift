// SPDX-License-Identifier: Apache-2.0

internal import FrontEnd
internal import Host
internal import SystemPackage
internal import UAPI

/// The caller of one message.
final class CUSEClient: Client {
  let task: HostTask
  /// Whose share the call uses.
  private let identity: ClientIdentity
  private let memory: any UserMemory
  private let resources: SharedResources
  /// The files behind descriptors that calls on the same file have named. `nil` for an open.
  private let descriptorCache: DescriptorCache?
  /// Where system calls can be injected into the calling thread. `nil` where they cannot: in an
  /// open, a read or a write, and for 32-bit callers.
  private let injection: InjectionPoint?
  /// The calling thread, once it is stopped at the end of its ioctl. The ioctl is answered by then,
  /// so the result of the device's call must be set with `Tracee.resume(returning:)`.
  private(set) var tracee: Tracee?
  /// Stored for the time of this call. The process cannot execute another program meanwhile,
  /// because execve(2) waits for the end of the other threads, and a thread that waits for FUSE
  /// does not end.
  private var space: AddressSpace?

  init(
    _ task: HostTask, _ identity: ClientIdentity, memory: any UserMemory,
    resources: SharedResources,
    descriptorCache: DescriptorCache? = nil, injection: InjectionPoint? = nil
  ) {
    self.task = task
    self.identity = identity
    self.memory = memory
    self.resources = resources
    self.descriptorCache = descriptorCache
    self.injection = injection
  }

  func isCapable(of capability: Capability) -> Bool {
    resources.grants.isCapable(task, of: capability)
  }

  func copyIn(
    from address: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) {
    try memory.copyIn(from: address, into: buffer)
  }

  func copyOut(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(Errno) {
    try memory.copyOut(bytes, to: address)
  }

  func addressSpace() throws(Errno) -> AddressSpace {
    if let space { return space }
    let found = try resources.addressSpaces.addressSpace(of: task)
    space = found
    return found
  }

  /// Returns a ``SubstituteFile`` for a descriptor of one of this server's own nodes.
  func duplicateDescriptor(_ number: Int32) throws(Errno) -> OwnedDescriptor {
    let charge = try ChargedShares.descriptors.charge(identity)
    let copy = try task.duplicateDescriptor(
      number, closedBy: { [closer = resources.closer] in closer.close($0) }, charge: charge)
    guard resources.nodes.isFileOfNode(copy.rawValue), !copy.isPathOnly else { return copy }
    return try SubstituteFile.open()
  }

  func openFile(_ number: Int32) throws(Errno) -> (any OpenFile)? {
    try resources.lookup.openFile(number, of: task, cache: descriptorCache)?.file
  }

  func install(
    _ file: any OpenFile, publish: (_ number: Int32) throws(Errno) -> Void
  ) throws(Errno) {
    guard let injection else { throw .notSupported }
    let thread: Tracee
    if let tracee {
      thread = tracee
    } else {
      thread = try injection.stopThread()
      tracee = thread
    }
    let pending = PendingFile(file)
    do throws(Errno) {
      let number = try resources.expectedOpens.makeDescriptor(of: pending, in: thread)
      do throws(Errno) {
        try publish(number)
      } catch {
        thread.close(number)
        throw error
      }
    } catch {
      pending.withdraw()
      throw error
    }
    pending.install()
  }
}

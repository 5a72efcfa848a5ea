internal import FrontEnd
internal import Host
internal import SystemPackage
internal import UAPI

/// The caller of one message.
final class CUSEClient: Client {
  let task: HostTask
  private let memory: any UserMemory
  private let services: Services
  /// The files that calls like this one have named.
  private let named: NamedFiles?
  /// Where a system call can be injected; nil where it cannot (open, read, 32-bit callers).
  private let injection: InjectionPoint?
  /// The calling thread, stopped after its ioctl was answered. What the device's call returns must
  /// then go into its registers.
  private(set) var held: Tracee?
  /// Found during this call, which no exec can interrupt: a thread that waits for FUSE does not end.
  private var space: AddressSpace?

  init(
    _ task: HostTask, memory: any UserMemory, services: Services, named: NamedFiles? = nil,
    injection: InjectionPoint? = nil
  ) {
    self.task = task
    self.memory = memory
    self.services = services
    self.named = named
    self.injection = injection
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
    let found = try services.addressSpaces.addressSpace(of: task)
    space = found
    return found
  }

  /// Of one of our own nodes, something else that is neither memory nor an event: what a device keeps
  /// must not keep a device open, or an iommufd that maps itself would stay when its last client is gone.
  func duplicateDescriptor(_ number: Int32) throws(Errno) -> OwnedDescriptor {
    let copy = try task.duplicateDescriptor(number) { [services] in services.close($0) }
    guard services.nodes.contain(copy.rawValue), !copy.isPathOnly else { return copy }
    return try SubstituteFile.open()
  }

  func openFile(_ number: Int32) throws(Errno) -> (any OpenFile)? {
    try services.openFile(number, of: task, named: named)?.file
  }

  func install(
    _ file: any OpenFile, publish: (_ number: Int32) throws(Errno) -> Void
  ) throws(Errno) {
    guard let injection else { throw .notSupported }
    let thread: Tracee
    if let held {
      thread = held
    } else {
      thread = try injection.hold()
      held = thread
    }
    let pending = PendingFile(file)
    do throws(Errno) {
      let number = try services.makeDescriptor(of: pending, in: thread)
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

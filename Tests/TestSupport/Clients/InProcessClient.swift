// SPDX-License-Identifier: Apache-2.0

// An in-process front end: the test is the client. The client's memory is that of this process. The
// client accesses it by the system calls of a front end, so that a bad pointer is EFAULT and not a
// crash. Its descriptors are descriptors of this process.

internal import Glibc
package import Host
internal import Synchronization
package import SystemPackage
package import UAPI

package final class InProcessClient: Client, Sendable {
  private static let spaces = AddressSpaceRegistry()

  private struct State {
    var files: [Int32: any OpenFile] = [:]
    var installLimit = Int.max
  }

  private let state = Mutex(State())

  /// The task whose capabilities and limits apply.
  package let task: HostTask

  /// - Parameter identity: Another process whose capabilities and limits the client has. The memory
  ///   and the descriptors are those of this process.
  /// - Parameter capabilities: Capabilities that the client has in addition, because root of a
  ///   container may lack them.
  package init(identity: HostTask? = nil, capabilities: Set<Capability> = []) {
    task = identity ?? HostTask(id: getpid())
    self.capabilities = capabilities
  }

  private let capabilities: Set<Capability>

  package func isCapable(of capability: Capability) -> Bool {
    capabilities.contains(capability) || task.isCapable(of: capability)
  }

  private var own: HostTask { HostTask(id: getpid()) }

  package func addressSpace() throws(Errno) -> AddressSpace {
    try Self.spaces.addressSpace(of: own)
  }

  package func copyIn(
    from address: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) {
    try own.read(at: address, into: buffer)
  }

  package func copyOut(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(Errno) {
    try own.write(bytes, at: address)
  }

  // MARK: Descriptors

  /// Opens a device.
  package func open(_ device: some CharacterDevice) throws -> Int32 {
    try add(device.open(by: self))
  }

  /// Closes the last descriptor of a file.
  package func close(_ number: Int32) {
    let file = state.withLock { $0.files.removeValue(forKey: number) }
    Glibc.close(number)
    file?.release()
  }

  package func file(_ number: Int32) -> (any OpenFile)? {
    state.withLock { $0.files[number] }
  }

  package func duplicateDescriptor(_ number: Int32) throws(Errno) -> OwnedDescriptor {
    let copy = fcntl(number, F_DUPFD_CLOEXEC, 0)
    guard copy >= 0 else { throw .badFileDescriptor }
    return OwnedDescriptor(owning: copy)
  }

  package func openFile(_ number: Int32) throws(Errno) -> (any OpenFile)? {
    guard fcntl(number, F_GETFD) >= 0 else { throw .badFileDescriptor }
    return file(number)
  }

  package func install(
    _ file: any OpenFile, publish: (_ number: Int32) throws(Errno) -> Void
  ) throws(Errno) {
    try FaultInjection.step()
    let number = try add(file)
    do throws(Errno) {
      try publish(number)
    } catch {
      state.withLock { $0.files[number] = nil }
      Glibc.close(number)
      throw error
    }
  }

  /// Limits the number of open files to `count`. A further file is EMFILE.
  package func limitFiles(to count: Int) {
    state.withLock { $0.installLimit = count }
  }

  private func add(_ file: any OpenFile) throws(Errno) -> Int32 {
    guard state.withLock({ $0.files.count < $0.installLimit }) else { throw .tooManyOpenFiles }
    let number = Glibc.open("/dev/null", O_RDWR | O_CLOEXEC)
    guard number >= 0 else { throw Errno(rawValue: errno) }
    state.withLock { $0.files[number] = file }
    return number
  }
}

// The node /dev/iommu, and one open(2) of it.

internal import CUAPI
internal import Host
package import IOMMU
package import SystemPackage
package import UAPI

package final class IOMMUFDDevice: CharacterDevice {
  package let name: String
  private let memory: PhysicalMemory
  private let dispatcher: Dispatcher
  private let selftest: Selftest?
  private let extensions: ActiveExtensions

  /// - Parameter selftest: makes IOMMU_TEST_CMD a command.
  package init(
    name: String = "iommu", memory: PhysicalMemory, selftest: Selftest? = nil,
    extensions: ActiveExtensions = .none
  ) {
    self.name = name
    self.memory = memory
    self.selftest = selftest
    self.extensions = extensions
    dispatcher = Dispatcher(
      Dispatcher.handlers + (selftest == nil ? [] : [SelftestCommand.handler]),
      extensions: Dispatcher.extensions + extensions.handlers)
  }

  package func open(by client: any Client) throws(Errno) -> any OpenFile {
    try FaultInjection.step()
    return IOMMUFDFile(
      Context(memory: memory, selftest: selftest, extensions: extensions), dispatcher: dispatcher)
  }
}

package final class IOMMUFDFile: OpenFile {
  package let context: Context
  private let dispatcher: Dispatcher

  init(_ context: Context, dispatcher: Dispatcher) {
    self.context = context
    self.dispatcher = dispatcher
  }

  package func ioctl(
    _ request: UInt32, argument: UInt64, client: any Client
  ) throws(Errno) -> Int32 {
    try dispatcher.call(
      IoctlNumber(rawValue: request), argument: argument, client: client, on: context)
  }

  // With ``Extensions/Name/registerCalls``.
  package var hasRead: Bool { context.extensions.hasRegisterCalls }
  package var hasWrite: Bool { context.extensions.hasRegisterCalls }

  package func read(into destination: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    let (pages, place) = try register(at: offset, count: destination.count)
    try destination.memory.store(pages.load(place).littleEndian, at: destination.address)
    return destination.count
  }

  package func write(from source: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    let (pages, place) = try register(at: offset, count: source.count)
    let value = try source.memory.load(UInt32.self, at: source.address)
    pages.store(UInt32(littleEndian: value), at: place)
    return source.count
  }

  private func register(
    at offset: UInt64, count: Int
  ) throws(Errno) -> (pages: SharedPages, place: Int) {
    guard count == 4, offset >= UInt64(IOMMUFD_SIM_REGISTERS) else { throw .invalidArgument }
    return try context.mappableRegions.register(at: offset - UInt64(IOMMUFD_SIM_REGISTERS))
  }

  package var hasRegions: Bool { true }

  package func region(for request: MappingRequest) throws(Errno) -> any MappableRegion {
    try context.mappableRegions.region(for: request)
  }

  package func release() {
    context.mappableRegions.forgetFile()
    context.release()
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import CUAPI
package import IOMMU
package import SystemPackage
package import UAPI

/// The node /dev/iommu.
package final class IOMMUFDDevice: CharacterDevice {
  package let name: String
  private let memory: PhysicalMemory
  private let dispatcher: Dispatcher
  private let selftest: Selftest?
  private let extensions: ExtensionSet

  /// - Parameter selftest: `nil` leaves IOMMU_TEST_CMD out, as a kernel without
  ///   CONFIG_IOMMUFD_TEST.
  package init(
    name: String = "iommu", memory: PhysicalMemory, selftest: Selftest? = nil,
    extensions: ExtensionSet = .none
  ) {
    self.name = name
    self.memory = memory
    self.selftest = selftest
    self.extensions = extensions
    dispatcher = Dispatcher(
      Dispatcher.handlers + (selftest == nil ? [] : [SelftestCommand.handler]),
      simulatorHandlers: Dispatcher.simulatorHandlers + extensions.handlers)
  }

  package func open(by client: any Client) throws(Errno) -> any OpenFile {
    try FaultInjection.step()
    return IOMMUFDFile(
      Context(memory: memory, selftest: selftest, extensions: extensions), dispatcher: dispatcher)
  }
}

/// One open /dev/iommu as a front end serves it. Its state is the ``Context``, which can outlive
/// it.
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
    do throws(Errno) {
      return try call(request, argument, client)
    } catch {
      // What contexts that were closed before still hold is free on a real host. An operation of
      // the selftest interface may fail with ENOMEM on purpose and is not made again.
      guard error == .noMemory, request != Ioctl.test.number.rawValue,
        DeferredReleases.shared.waitForEarlier()
      else { throw error }
      return try call(request, argument, client)
    }
  }

  private func call(
    _ request: UInt32, _ argument: UInt64, _ client: any Client
  ) throws(Errno) -> Int32 {
    try dispatcher.call(
      IoctlNumber(rawValue: request), argument: argument, client: client, on: context)
  }

  package func pinsMemory(in request: UInt32) -> Bool {
    Self.pinningRequests.contains(request)
  }

  private static let pinningRequests = [
    Ioctl.ioasMap, .ioasChangeProcess, .vfioIOMMUMapDMA,
  ].map { $0.number.rawValue }

  // The kernel's iommufd has neither read nor write; an extension may have them.

  private var transferHooks: (any ExtensionHooks)? {
    context.hooks.first { $0.hasReadAndWrite }
  }

  package var hasRead: Bool { transferHooks != nil }
  package var hasWrite: Bool { transferHooks != nil }

  package func read(into destination: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard let transferHooks else { throw .invalidArgument }
    return try transferHooks.read(into: destination, at: offset, from: context)
  }

  package func write(from source: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard let transferHooks else { throw .invalidArgument }
    return try transferHooks.write(from: source, at: offset, to: context)
  }

  package var hasRegions: Bool { true }

  package func region(for request: MappingRequest) throws(Errno) -> any MappableRegion {
    try context.mappableRegions.region(for: request)
  }

  package func release() {
    context.mappableRegions.permitPinning()
    context.release()
  }
}

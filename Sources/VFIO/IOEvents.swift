// VFIO_DEVICE_IOEVENTFD: an eventfd whose signal writes a fixed value to a register, so that a
// doorbell needs no call (vfio_pci_ioeventfd()).

internal import CUAPI
internal import Host
internal import PCI
internal import Synchronization
internal import SystemPackage
internal import UAPI

extension DeviceFile {
  /// vfio_pci_ioctl_ioeventfd()
  func setIOEvent(_ call: DeviceCall, _ opened: OpenedDevice) throws(Errno) {
    let minimum = Ioctl.vfioDeviceIOEventFD.minimumSize
    let request: vfio_device_ioeventfd = try call.load(count: minimum)
    guard request.argsz >= minimum,
      request.flags & ~UInt32(VFIO_DEVICE_IOEVENTFD_SIZE_MASK) == 0,
      request.flags.nonzeroBitCount == 1, request.fd >= -1
    else { throw .invalidArgument }

    // The flag of a width is the number of its bytes.
    let event = try IOEvent(
      request.offset, width: Int(request.flags), value: request.data,
      of: device.function.description)
    if request.fd < 0 {
      try opened.ioEvents.remove(event)
    } else {
      try opened.addIOEvent(event, request.fd, client: call.client)
    }
  }
}

/// What a signal writes, and where.
struct IOEvent: Hashable, Sendable {
  let index: Int
  let position: UInt64
  let width: Int
  let value: UInt64

  init(
    _ offset: UInt64, width: Int, value: UInt64, of description: FunctionDescription
  ) throws(Errno) {
    let region = RegionOffset.index(of: offset)
    guard Region.bars.contains(region) else { throw .invalidArgument }
    index = Int(region)
    position = RegionOffset.position(in: offset)
    self.width = width
    self.value = value
    let end = position + UInt64(width)
    guard end <= description.bar(index)?.size ?? 0 else { throw .invalidArgument }
    // Not a way around the MSI-X table's protection.
    if let table = description.msixTable, table.bar == index,
      end > table.offset, position < table.offset + table.size
    {
      throw .invalidArgument
    }
  }
}

/// The ioeventfds of an opened device.
final class IOEventTable: Sendable {
  private let watches = Mutex<[IOEvent: Watch]>([:])

  /// VFIO_PCI_IOEVENTFD_MAX
  private static let limit = 1000

  func remove(_ event: IOEvent) throws(Errno) {
    guard let watch = watches.withLock({ $0.removeValue(forKey: event) }) else {
      throw .operationNotSupportedByDevice
    }
    watch.cancel()
  }

  func removeAll() {
    let all = watches.withLock { watches in
      defer { watches = [:] }
      return Array(watches.values)
    }
    for watch in all { watch.cancel() }
  }

  func add(
    _ event: IOEvent, _ number: Int32, client: any Client,
    write: @escaping @Sendable () -> Void
  ) throws(Errno) {
    try watches.withLock { watches throws(Errno) in
      guard watches[event] == nil else { throw .fileExists }
      guard watches.count < Self.limit else { throw .noSpace }
      let descriptor = try EventDescriptor(client.duplicateDescriptor(number))
      watches[event] = try EventWatcher.shared.watch(descriptor, write)
    }
  }
}

extension OpenedDevice {
  fileprivate func addIOEvent(
    _ event: IOEvent, _ number: Int32, client: any Client
  ) throws(Errno) {
    // vfio_pci_ioeventfd_handler(): a signal while memory is disabled is lost.
    try ioEvents.add(event, number, client: client) { [weak self] in
      guard let self, config.withLock({ $0.isMemoryEnabled }) else { return }
      let access = RegisterAccess(
        bar: event.index, offset: event.position, width: event.width)
      function.write(access, event.value)
    }
  }
}

// VFIO_DEVICE_SET_IRQS: the header is checked completely before anything happens
// (vfio_pci_ioctl_set_irqs(), vfio_set_irqs_validate_and_prepare()).

internal import CUAPI
internal import SystemPackage
internal import UAPI

extension DeviceFile {
  func setIRQs(_ call: DeviceCall, _ opened: OpenedDevice) throws(Errno) -> Int32 {
    let headerSize = Ioctl.vfioDeviceSetIRQs.minimumSize
    let header: IRQSetHeader = try call.load(count: headerSize)
    let elementSize = try Self.validate(
      header, headerSize: headerSize, interrupts: opened.interruptCount(header.index))

    let count = Int(header.count)
    let size = count * elementSize
    let data: [UInt8] =
      size == 0 ? [] : try call.client.loadArray(size, at: call.argument &+ UInt64(headerSize))
    guard let action = Self.action(header.flags) else { throw .inappropriateIOCTLForDevice }
    let request = Interrupts.Request(
      index: header.index, action: action, start: Int(header.start),
      data: Self.elements(count, elementSize, data), form: Self.form(elementSize))
    return try opened.interrupts.set(request, client: call.client)
  }

  /// - Parameter interrupts: how many the index has; 0 for an index that does not exist.
  /// - Returns: the size of one element of data.
  private static func validate(
    _ header: IRQSetHeader, headerSize: Int, interrupts: UInt32
  ) throws(Errno) -> Int {
    let known = UInt32(dataBits | actionBits)
    guard header.argsz >= headerSize, header.index < InterruptIndex.count,
      header.count < UInt32.max - header.start, header.flags & ~known == 0,
      header.start < interrupts, header.start + header.count <= interrupts
    else { throw .invalidArgument }

    let elementSize: Int
    switch Int32(header.flags) & dataBits {
    case VFIO_IRQ_SET_DATA_NONE: elementSize = 0
    case VFIO_IRQ_SET_DATA_BOOL: elementSize = 1
    case VFIO_IRQ_SET_DATA_EVENTFD: elementSize = 4
    default: throw .invalidArgument
    }
    guard Int(header.argsz) - headerSize >= Int(header.count) * elementSize else {
      throw .invalidArgument
    }
    return elementSize
  }

  private static let dataBits =
    VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_DATA_EVENTFD
  private static let actionBits =
    VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_ACTION_TRIGGER

  /// Exactly one action, or the index has no function for it.
  private static func action(_ flags: UInt32) -> Interrupts.Request.Action? {
    switch Int32(flags) & actionBits {
    case VFIO_IRQ_SET_ACTION_MASK: .mask
    case VFIO_IRQ_SET_ACTION_UNMASK: .unmask
    case VFIO_IRQ_SET_ACTION_TRIGGER: .trigger
    default: nil
    }
  }

  private static func form(_ elementSize: Int) -> Interrupts.Request.Form {
    switch elementSize {
    case 0: .none
    case 1: .flags
    default: .descriptors
    }
  }

  private static func elements(
    _ count: Int, _ size: Int, _ data: [UInt8]
  ) -> [Interrupts.Request.Element] {
    (0..<count).map { index in
      switch size {
      case 0: .none
      case 1: .flag(data[index] != 0)
      default:
        .descriptor(
          data.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: index * 4, as: Int32.self) })
      }
    }
  }
}

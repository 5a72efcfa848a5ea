// SPDX-License-Identifier: Apache-2.0

// VFIO_DEVICE_SET_IRQS. The fixed members of the struct are validated before any interrupt changes
// (vfio_pci_ioctl_set_irqs(), vfio_set_irqs_validate_and_prepare()).

internal import CUAPI
internal import SystemPackage
internal import UAPI

extension DeviceFile {
  func setIRQs(_ call: DeviceCall, _ opened: OpenedDevice) throws(Errno) {
    let prefixSize = Ioctl.vfioDeviceSetIRQs.minimumSize
    let prefix: IRQSetPrefix = try call.load(count: prefixSize)
    let elementSize = try Self.validate(
      prefix, prefixSize: prefixSize, interrupts: opened.interruptCount(prefix.index))

    let count = Int(prefix.count)
    let size = count * elementSize
    let data: [UInt8] =
      size == 0 ? [] : try call.client.loadArray(size, at: call.argument &+ UInt64(prefixSize))
    guard let action = Self.action(prefix.flags) else { throw .inappropriateIOCTLForDevice }
    let request = Interrupts.Request(
      index: prefix.index, action: action, start: Int(prefix.start),
      data: Self.elements(count, elementSize, data), form: Self.form(elementSize))
    try opened.interrupts.set(request, client: call.client)
  }

  /// - Parameter interrupts: The number of interrupts of the index, 0 for an index that does not
  ///   exist.
  /// - Returns: Bytes of one element of the data.
  private static func validate(
    _ prefix: IRQSetPrefix, prefixSize: Int, interrupts: UInt32
  ) throws(Errno) -> Int {
    let known = UInt32(dataBits | actionBits)
    guard prefix.argsz >= prefixSize, prefix.index < InterruptIndex.count,
      prefix.count < UInt32.max - prefix.start, prefix.flags & ~known == 0,
      prefix.start < interrupts, prefix.start + prefix.count <= interrupts
    else { throw .invalidArgument }

    let elementSize: Int
    switch Int32(prefix.flags) & dataBits {
    case VFIO_IRQ_SET_DATA_NONE: elementSize = 0
    case VFIO_IRQ_SET_DATA_BOOL: elementSize = 1
    case VFIO_IRQ_SET_DATA_EVENTFD: elementSize = 4
    default: throw .invalidArgument
    }
    guard Int(prefix.argsz) - prefixSize >= Int(prefix.count) * elementSize else {
      throw .invalidArgument
    }
    return elementSize
  }

  private static let dataBits =
    VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_DATA_EVENTFD
  private static let actionBits =
    VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_ACTION_TRIGGER

  /// Returns the action, or `nil` unless `flags` has exactly one. For no action and for several
  /// actions the kernel finds no function and answers ENOTTY.
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

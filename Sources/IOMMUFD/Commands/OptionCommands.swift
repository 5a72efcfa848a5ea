// SPDX-License-Identifier: Apache-2.0

// IOMMU_OPTION: settings of a context and of an IOAS. Both GET and SET write the value back, and
// nothing else of the struct. So a SET whose struct is read-only fails with EFAULT and has taken
// effect.

internal import CUAPI
internal import Host
internal import SystemPackage
internal import UAPI

enum OptionCommands {
  private enum Direction {
    case get
    case set(UInt64)
  }

  /// iommufd: iommufd_option()
  static func option(_ command: inout UserCommand<iommu_option>) throws(Errno) {
    let arguments = command.arguments
    guard arguments.__reserved == 0 else { throw .notSupported }
    let context = command.context
    let value: UInt64
    switch arguments.option_id {
    case IOMMU_OPTION_RLIMIT_MODE.rawValue:
      guard arguments.object_id == 0 else { throw .notSupported }
      let client = command.client
      value = try rlimitMode(direction(of: arguments), of: context, client: client)
    case IOMMU_OPTION_HUGE_PAGES.rawValue:
      value = try context.lock.withLock { () throws(Errno) in
        let ioas = try context.ioas(ObjectID(arguments.object_id))
        return try hugePages(direction(of: arguments), of: ioas.pageTable)
      }
    default:
      throw .notSupported
    }
    command.arguments.val64 = value
    try command.respond(only: \.val64)
  }

  private static func direction(of arguments: iommu_option) throws(Errno) -> Direction {
    switch UInt32(arguments.op) {
    case IOMMU_OPTION_OP_GET.rawValue: .get
    case IOMMU_OPTION_OP_SET.rawValue: .set(arguments.val64)
    default: throw .notSupported
    }
  }

  /// Changes the accounting mode only while the context has no objects: their pages are uncharged
  /// from the counter that they were charged to. iommufd: iommufd_option_rlimit_mode()
  private static func rlimitMode(
    _ direction: Direction, of context: Context, client: any Client
  ) throws(Errno) -> UInt64 {
    guard case .set(let value) = direction else {
      return context.lock.withLock { context.accountingMode == .process ? 1 : 0 }
    }
    guard client.isCapable(of: .sysResource) else { throw .notPermitted }
    try context.lock.withLock { () throws(Errno) in
      guard context.objects.isEmpty else { throw Errno.resourceBusy }
      switch value {
      case 0: context.accountingMode = .user
      case 1: context.accountingMode = .process
      default: throw Errno.invalidArgument
      }
    }
    return value
  }

  /// iommufd: iommufd_ioas_option_huge_pages()
  private static func hugePages(
    _ direction: Direction, of pageTable: IOPageTable
  ) throws(Errno) -> UInt64 {
    switch direction {
    case .get:
      return pageTable.disablesLargePages ? 0 : 1
    case .set(0):
      try pageTable.disableLargePages()
      return 0
    case .set(1):
      pageTable.enableLargePages()
      return 1
    case .set:
      throw .invalidArgument
    }
  }
}

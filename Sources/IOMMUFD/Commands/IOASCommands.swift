// SPDX-License-Identifier: Apache-2.0

// The commands that allocate and use IOASes (iommufd: ioas.c). A command checks its argument, looks
// the objects up, changes them, and copies the answer out last, without the lock. When the answer
// cannot be stored, the result is EFAULT and the change stays.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

enum IOASCommands {
  /// iommufd: iommufd_ioas_alloc_ioctl()
  static func allocate(_ command: inout UserCommand<iommu_ioas_alloc>) throws(Errno) {
    guard command.arguments.flags == 0 else { throw .notSupported }
    let context = command.context
    let ioas = try context.lock.withLock { () throws(Errno) in
      IOAS(id: try context.objects.reserve(), in: context)
    }
    command.arguments.out_ioas_id = ioas.id.rawValue
    try command.respond(publishing: ioas)
  }

  /// iommufd: iommufd_ioas_map()
  static func map(_ command: inout UserCommand<iommu_ioas_map>) throws(Errno) {
    let arguments = command.arguments
    let flags = MapFlags(rawValue: arguments.flags)
    guard flags.isKnown, arguments.__reserved == 0 else { throw .notSupported }
    guard arguments.iova != .max, arguments.length != .max else { throw .overflow }
    guard let permissions = flags.permissions else { throw .invalidArgument }
    let (context, client) = (command.context, command.client)
    let iova = try context.lock.withLock { () throws(Errno) in
      let ioas = try context.ioas(ObjectID(arguments.ioas_id))
      return try ioas.withUser { () throws(Errno) in
        try ioas.pageTable.map(
          userAddress: arguments.user_va, length: arguments.length,
          at: flags.fixedIOVA(arguments.iova), permissions: permissions,
          accounting: context.accountingMode, client: client)
      }
    }
    command.arguments.iova = iova.rawValue
    try command.respond()
  }

  /// iommufd: iommufd_ioas_map_file()
  static func mapFile(_ command: inout UserCommand<iommu_ioas_map_file>) throws(Errno) {
    let arguments = command.arguments
    let flags = MapFlags(rawValue: arguments.flags)
    guard flags.isKnown else { throw .notSupported }
    guard arguments.iova != .max, arguments.length != .max else { throw .overflow }
    guard let permissions = flags.permissions else { throw .invalidArgument }
    let (context, client) = (command.context, command.client)
    let buffer = context.selftest == nil ? nil : DMABufferFile.buffer(of: arguments.fd, client)
    let iova = try context.lock.withLock { () throws(Errno) in
      let ioas = try context.ioas(ObjectID(arguments.ioas_id))
      if let buffer {
        return try ioas.pageTable.map(
          buffer: buffer, start: arguments.start, length: arguments.length,
          at: flags.fixedIOVA(arguments.iova), permissions: permissions, importer: context,
          client: client)
      }
      return try ioas.withUser { () throws(Errno) in
        try ioas.pageTable.map(
          file: arguments.fd, start: arguments.start, length: arguments.length,
          at: flags.fixedIOVA(arguments.iova), permissions: permissions,
          accounting: context.accountingMode, client: client)
      }
    }
    command.arguments.iova = iova.rawValue
    try command.respond()
  }

  /// iommufd: iommufd_ioas_copy()
  static func copy(_ command: inout UserCommand<iommu_ioas_copy>) throws(Errno) {
    if command.context.selftest != nil { NumberedAreas.resolve(&command) }
    let arguments = command.arguments
    let flags = MapFlags(rawValue: arguments.flags)
    guard flags.isKnown else { throw .notSupported }
    guard arguments.length != .max, arguments.src_iova != .max, arguments.dst_iova != .max else {
      throw .overflow
    }
    guard let permissions = flags.permissions else { throw .invalidArgument }
    let (context, client) = (command.context, command.client)
    let iova = try context.lock.withLock { () throws(Errno) in
      let source = try context.ioas(ObjectID(arguments.src_ioas_id))
      let pages = try source.pageTable.pages(
        at: IOVA(arguments.src_iova), length: arguments.length)
      let destination = try context.ioas(ObjectID(arguments.dst_ioas_id))
      return try destination.withUser { () throws(Errno) in
        try destination.pageTable.map(
          pages, length: arguments.length, at: flags.fixedIOVA(arguments.dst_iova),
          permissions: permissions, client: client)
      }
    }
    command.arguments.dst_iova = iova.rawValue
    try command.respond()
  }

  /// iommufd: iommufd_ioas_unmap()
  static func unmap(_ command: inout UserCommand<iommu_ioas_unmap>) throws(Errno) {
    let arguments = command.arguments
    let context = command.context
    command.arguments.length = try context.lock.withLock { () throws(Errno) in
      let ioas = try context.ioas(ObjectID(arguments.ioas_id))
      if arguments.iova == 0, arguments.length == .max {
        return try ioas.withUser { ioas.pageTable.unmapAll() }.get()
      }
      guard arguments.iova != .max, arguments.length != .max else { throw Errno.overflow }
      let unmapped = try ioas.withUser {
        ioas.pageTable.unmap(IOVA(arguments.iova), length: arguments.length)
      }.get()
      guard unmapped > 0 else { throw Errno.noSuchFileOrDirectory }
      return unmapped
    }
    try command.respond()
  }

  /// iommufd: iommufd_ioas_change_process()
  static func changeProcess(
    _ command: inout UserCommand<iommu_ioas_change_process>
  ) throws(Errno) {
    guard command.arguments.__reserved == 0 else { throw .notSupported }
    let (context, client) = (command.context, command.client)
    try context.lock.withLock { () throws(Errno) in
      try IOPageTable.changeProcess(
        of: context.objects.all(IOAS.self).map(\.pageTable), to: client)
    }
  }

  /// Fails as in a kernel without CONFIG_IOMMUFD_NOIOMMU, whatever the argument.
  static func noIOMMUGetPhysicalAddress(
    _ command: inout UserCommand<iommu_ioas_noiommu_get_pa>
  ) throws(Errno) {
    throw .notSupported
  }
}

/// The flags of IOMMU_IOAS_MAP, IOMMU_IOAS_MAP_FILE and IOMMU_IOAS_COPY.
struct MapFlags: OptionSet {
  let rawValue: UInt32

  static let fixedIOVA = MapFlags(rawValue: IOMMU_IOAS_MAP_FIXED_IOVA.rawValue)
  static let writeable = MapFlags(rawValue: IOMMU_IOAS_MAP_WRITEABLE.rawValue)
  static let readable = MapFlags(rawValue: IOMMU_IOAS_MAP_READABLE.rawValue)

  private static let known =
    IOMMU_IOAS_MAP_FIXED_IOVA.rawValue | IOMMU_IOAS_MAP_WRITEABLE.rawValue
    | IOMMU_IOAS_MAP_READABLE.rawValue

  var isKnown: Bool { rawValue & ~Self.known == 0 }

  /// `nil` when the flags permit neither reads nor writes.
  var permissions: Permissions? {
    var permissions: Permissions = []
    if contains(.readable) { permissions.insert(.read) }
    if contains(.writeable) { permissions.insert(.write) }
    return permissions.isEmpty ? nil : permissions
  }

  /// Returns the first IOVA of the mapping; `nil` without IOMMU_IOAS_MAP_FIXED_IOVA, when the page
  /// table chooses it.
  func fixedIOVA(_ iova: UInt64) -> IOVA? { contains(.fixedIOVA) ? IOVA(iova) : nil }
}

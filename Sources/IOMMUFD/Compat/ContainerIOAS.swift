// SPDX-License-Identifier: Apache-2.0

// IOMMU_VFIO_IOAS: gets, sets or clears the IOAS that the VFIO container commands use
// (iommufd: vfio_compat.c). The destruction of the IOAS clears it too.

internal import CUAPI
internal import SystemPackage
internal import UAPI

enum ContainerIOASCommand {
  /// iommufd: iommufd_vfio_ioas()
  static func execute(_ command: inout UserCommand<iommu_vfio_ioas>) throws(Errno) {
    let arguments = command.arguments
    guard arguments.__reserved == 0 else { throw .notSupported }
    let context = command.context
    switch UInt32(arguments.op) {
    case IOMMU_VFIO_IOAS_GET.rawValue:
      let id = try context.lock.withLock { () throws(Errno) in
        try context.requireContainerIOAS().id
      }
      command.arguments.ioas_id = id.rawValue
      try command.respond()
    case IOMMU_VFIO_IOAS_SET.rawValue:
      try context.lock.withLock { () throws(Errno) in
        context.containerIOAS = try context.ioas(ObjectID(arguments.ioas_id))
      }
    case IOMMU_VFIO_IOAS_CLEAR.rawValue:
      context.lock.withLock { context.containerIOAS = nil }
    default:
      throw .notSupported
    }
  }
}

extension Context {
  /// iommufd: get_compat_ioas()
  /// - Throws: `.operationNotSupportedByDevice` (ENODEV) when no IOAS is set.
  func requireContainerIOAS() throws(Errno) -> IOAS {
    lock.assertHeld()
    guard let containerIOAS else { throw .operationNotSupportedByDevice }
    return containerIOAS
  }
}

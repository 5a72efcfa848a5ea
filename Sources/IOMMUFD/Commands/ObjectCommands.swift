// SPDX-License-Identifier: Apache-2.0

internal import CUAPI
internal import SystemPackage
internal import UAPI

/// IOMMU_DESTROY. iommufd: iommufd_destroy()
enum ObjectCommands {
  static func destroy(_ command: inout UserCommand<iommu_destroy>) throws(Errno) {
    let context = command.context
    let id = ObjectID(command.arguments.id)
    try context.lock.withLock { () throws(Errno) in try context.destroy(id) }
  }
}

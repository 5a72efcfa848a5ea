// SPDX-License-Identifier: Apache-2.0

internal import CUAPI
internal import SystemPackage
internal import UAPI

/// IOMMUFD_SIM_FAULT_LOG_ALLOC.
enum FaultLogCommand {
  static func allocate(_ command: inout UserCommand<iommufd_sim_fault_log_alloc>) throws(Errno) {
    let arguments = command.arguments
    guard arguments.flags == 0 else { throw .notSupported }
    let context = command.context
    var device: ObjectID?
    if arguments.dev_id != 0 {
      let id = ObjectID(arguments.dev_id)
      try context.lock.withLock { () throws(Errno) in
        _ = try context.objects.lookUp(id, as: BoundDevice.self)
      }
      device = id
    }
    let file = try context.faultLogs.open(for: device)
    do throws(Errno) {
      var answer = command
      try command.client.install(file) { (number: Int32) throws(Errno) in
        answer.arguments.out_fd = UInt32(bitPattern: number)
        try answer.respond()
      }
    } catch {
      file.release()
      throw error
    }
  }
}

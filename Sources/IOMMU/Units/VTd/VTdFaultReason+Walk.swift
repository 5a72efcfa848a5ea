// SPDX-License-Identifier: Apache-2.0

// The fault reason of each way in which a walk can fail (VT-d §7.1.3 Fault Conditions and Remapping
// Hardware Behavior for Various Requests).

extension VTdFaultReason {
  /// Returns the reason of a failed second-stage walk for data.
  init(secondStage fault: WalkFault, topLevel: Int, access: Permissions) {
    switch fault {
    case .inaccessible(let level):
      self = level == topLevel ? .secondStagePointerInvalid : .secondStageInaccessible
    case .unwritable:
      self = .secondStageInaccessible
    case .reserved, .outputTooWide, .accessFlagClear:
      self = .secondStageReserved
    case .absent, .denied:
      // A second-stage entry has no present bit: absent means neither readable nor writable.
      self = access.isDisjoint(with: .anyWrite) ? .readDenied : .writeDenied
    case .inputTooWide:
      self = .beyondSecondStage
    }
  }

  /// Returns the reason of a failed first-stage walk.
  init(firstStage fault: WalkFault, topLevel: Int, access: Permissions) {
    switch fault {
    case .inaccessible(let level):
      self = level == topLevel ? .firstStagePointerInvalid : .firstStageInaccessible
    case .unwritable: self = .firstStageFlagsFailed
    case .reserved, .outputTooWide, .accessFlagClear: self = .firstStageReserved
    case .absent: self = .firstStageAbsent
    case .denied(_, let allowed): self.init(denied: access, allowed: allowed)
    case .inputTooWide: self = .notCanonical
    }
  }

  /// Returns the reason of an access that a present page does not allow. A page that allows
  /// privileged accesses only takes precedence over the other reasons.
  private init(denied access: Permissions, allowed: Permissions) {
    let unprivileged: Permissions = [.read, .write, .execute]
    if !access.isDisjoint(with: unprivileged) && allowed.isDisjoint(with: unprivileged) {
      self = .privilegeDenied
    } else if !access.intersection(.anyWrite).isSubset(of: allowed) {
      self = .writeDenied
    } else if !access.intersection([.execute, .privilegedExecute]).isSubset(of: allowed) {
      self = .executeDenied
    } else {
      self = .readDenied
    }
  }

  /// Returns the reason of a failed nested walk.
  /// - Parameters:
  ///   - firstTop: the level of the top table of the first stage.
  ///   - secondTop: the level of the top table of the second stage.
  init(nested fault: NestedFault, firstTop: Int, secondTop: Int, access: Permissions) {
    switch fault {
    case .first(let fault):
      self.init(firstStage: fault, topLevel: firstTop, access: access)
    case .second(let fault, address: _, use: .data):
      self.init(secondStage: fault, topLevel: secondTop, access: access)
    case .second(.inputTooWide, address: _, use: _):
      self = .firstStageEntryBeyond
    case .second(.absent, address: _, let use), .second(.denied, address: _, let use):
      switch use {
      case .entry(level: firstTop): self = .firstStagePointerDenied
      case .entry: self = .firstStageEntryDenied
      case .flags, .data: self = .firstStageFlagsDenied
      }
    case .second(let fault, address: _, use: _):
      self.init(secondStage: fault, topLevel: secondTop, access: .read)
    }
  }
}

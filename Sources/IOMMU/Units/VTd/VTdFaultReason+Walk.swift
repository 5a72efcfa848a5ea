// What a walk found, in VT-d's fault reasons (VT-d §7.1.3 Fault Conditions and Remapping Hardware
// Behavior for Various Requests).

extension VTdFaultReason {
  /// A walk of second-stage tables for data.
  init(secondStage fault: WalkFault, topLevel: Int, access: Permissions) {
    switch fault {
    case .inaccessible(let level):
      self = level == topLevel ? .secondStagePointerInvalid : .secondStageInaccessible
    case .unwritable:
      self = .secondStageInaccessible
    case .reserved, .outputTooWide, .accessFlagClear:
      self = .secondStageReserved
    case .absent, .denied:
      // Without a present bit, absent and denied are the same.
      self = access.isDisjoint(with: .anyWrite) ? .readDenied : .writeDenied
    case .inputTooWide:
      self = .beyondSecondStage
    }
  }

  /// A walk of first-stage tables.
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

  /// A page that allows something, but not this. That it is for privilege only comes first.
  private init(denied access: Permissions, allowed: Permissions) {
    let everybody: Permissions = [.read, .write, .execute]
    if !access.isDisjoint(with: everybody) && allowed.isDisjoint(with: everybody) {
      self = .privilegeDenied
    } else if !access.intersection(.anyWrite).isSubset(of: allowed) {
      self = .writeDenied
    } else if !access.intersection([.execute, .privilegedExecute]).isSubset(of: allowed) {
      self = .executeDenied
    } else {
      self = .readDenied
    }
  }

  /// A nested walk.
  /// - Parameters:
  ///   - firstTop, secondTop: the levels of the two top tables.
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
